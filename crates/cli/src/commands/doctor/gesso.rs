//! What Gesso's own runtime looks for: `gesso.json` and adapters.

use super::folder::{Feature, Folder};
use super::{Answers, GESSO, Lookup};
use gesso_convert::asset::Asset;
use gesso_convert::folder::{FeatureInfo, FolderInfo};

pub(super) const LOOKUPS: &[Lookup] = &[
    Lookup {
        name: "gesso.json",
        apps: GESSO,
        does: "reads `gesso.json`",
        check: info,
    },
    Lookup {
        name: "packages",
        apps: GESSO,
        does: "loads the models that `gesso.json` lists, compiled or not",
        check: packages,
    },
    Lookup {
        name: "features",
        apps: GESSO,
        does: "feeds the inputs that `gesso.json` lists",
        check: features,
    },
    Lookup {
        name: "slots",
        apps: GESSO,
        does: "computes the layout hash of the adapter slots from their modules",
        check: slots,
    },
    Lookup {
        name: "tokenizer",
        apps: GESSO,
        does: "reads `vocab.json` and `merges.txt` when `gesso.json` says that they are there",
        check: tokenizer,
    },
    Lookup {
        name: "adapters",
        apps: GESSO,
        does: "checks every byte of the adapters in the folder, and that they are made for its slots",
        check: adapters,
    },
];

fn read(f: &Folder) -> Option<FolderInfo> {
    FolderInfo::open(&f.path).ok()
}

fn info(f: &Folder, a: &mut Answers) {
    if !f.path.join("gesso.json").is_file() {
        a.refuse("`gesso.json` is missing: the folder was not written by `gesso convert`");
    } else if let Err(e) = FolderInfo::open(&f.path) {
        a.refuse(e.to_string());
    }
}

fn packages(f: &Folder, a: &mut Answers) {
    let Some(info) = read(f) else { return };
    for (name, package) in &info.packages {
        match f.part(name) {
            None => a.refuse(format!("`{}` is listed, but it is not there", package.file)),
            Some(part) => {
                for error in &part.errors {
                    a.refuse(format!("`{}`: {error}", part.file));
                }
            }
        }
    }
}

fn features(f: &Folder, a: &mut Answers) {
    let Some(info) = read(f) else { return };
    for (name, package) in &info.packages {
        let Some(part) = f.part(name).filter(|p| p.opened.is_ok()) else {
            continue;
        };
        let lists = [
            ("input", &package.inputs, part.inputs()),
            ("output", &package.outputs, part.outputs()),
        ];
        for (role, listed, found) in lists {
            for l in listed {
                match found.iter().find(|f| f.name == l.name) {
                    None => a.refuse(format!(
                        "`{}` has no {role} `{}`, which is listed",
                        part.file, l.name
                    )),
                    Some(f) if !same(l, f) => a.refuse(format!(
                        "`{}`: {role} `{}` is listed as {} {:?}, but it is {} {:?}",
                        part.file, l.name, l.dtype, l.shape, f.dtype, f.shape
                    )),
                    Some(_) => {}
                }
            }
        }
    }
}

fn same(listed: &FeatureInfo, found: &Feature) -> bool {
    let dtype = match listed.dtype.as_str() {
        "fp16" => "FLOAT16",
        "fp32" => "FLOAT32",
        "int32" => "INT32",
        other => other,
    };
    let shape: Vec<i64> = listed
        .shape
        .iter()
        .map(|&n| i64::try_from(n).unwrap_or(i64::MAX))
        .collect();
    dtype == found.dtype && shape == found.shape
}

fn slots(f: &Folder, a: &mut Answers) {
    if let Some(Err(e)) = read(f).map(|info| info.slot_tables()) {
        a.refuse(e.to_string());
    }
}

fn tokenizer(f: &Folder, a: &mut Answers) {
    if !read(f).is_some_and(|info| info.tokenizer) {
        return;
    }
    for name in ["vocab.json", "merges.txt"] {
        if !f.path.join(name).is_file() {
            a.refuse(format!("`{name}` is missing"));
        }
    }
}

fn adapters(f: &Folder, a: &mut Answers) {
    let Some(info) = read(f) else {
        return;
    };
    let Ok(slots) = info.slot_tables() else {
        return;
    };
    let Ok(entries) = std::fs::read_dir(&f.path) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "mlmodelcassets"))
    {
        match Asset::open(path) {
            Err(e) => a.refuse(e.to_string()),
            Ok(asset) => {
                if let Err(e) = asset.fits(&slots, &info.source_hash) {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    a.warn(format!("`{name}` cannot be used with this folder: {e}"));
                }
            }
        }
    }
}
