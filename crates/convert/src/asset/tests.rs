//! Assets with handmade members: the form, and every attack on it.

use super::*;
use crate::slots::{Role, Slot, SlotModule};
use sha2::{Digest, Sha256};
use std::fs;

fn table() -> SlotTable {
    let module = |module: &str, inputs, outputs| SlotModule {
        kernel: 1,
        component: "unet".into(),
        module: module.into(),
        inputs,
        outputs,
    };
    SlotTable::new(32, vec![module("a", 16, 24), module("b", 24, 24)])
}

fn manifest() -> Manifest {
    let row = |role, width| Slot {
        taps: 1,
        component: "unet".into(),
        module: "a".into(),
        width,
        role,
        row: 0,
    };
    Manifest {
        scheduler_hint: None,
        schema: SCHEMA,
        min_reader: MIN_READER,
        kind: KIND.into(),
        name: "test".into(),
        rank: 4,
        default_strength: 0.75,
        trigger_words: vec!["sks".into()],
        author: None,
        license: None,
        ignored: BTreeMap::new(),
        metadata: BTreeMap::from([("k".into(), "v".into())]),
        base_source_hash: None,
        components: BTreeMap::from([(
            "unet".to_string(),
            ComponentInfo {
                package: "unet.mlpackage".into(),
                layout_hash: hex(&table().layout_hash()),
                rank: 4,
            },
        )]),
        rows: vec![row(Role::Down, 16), row(Role::Up, 24)],
        members: BTreeMap::new(),
        signature: None,
    }
}

/// Writes an asset whose package members are a few made-up bytes.
fn asset(dir: &Path, change: impl FnOnce(&mut Manifest)) -> PathBuf {
    let parts = dir.join("parts");
    for (i, relative) in PACKAGE_FILES.iter().enumerate() {
        let path = parts.join("unet.mlpackage").join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![i as u8; 40 + i]).unwrap();
    }
    let mut manifest = manifest();
    change(&mut manifest);
    let file = dir.join("test.mlmodelcassets");
    write(&file, &parts, manifest).unwrap();
    file
}

/// Writes a zip with these members, and the message of opening it as an asset.
fn refused(members: &[(&str, &[u8])]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.zip");
    let options = ::zip::write::SimpleFileOptions::default()
        .compression_method(::zip::CompressionMethod::Stored)
        .last_modified_time(::zip::DateTime::default());
    let mut writer = ::zip::ZipWriter::new(fs::File::create(&file).unwrap());
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut writer, bytes).unwrap();
    }
    writer.finish().unwrap();
    let message = Asset::open(&file).unwrap_err().to_string();
    message.replace(&file.display().to_string(), "FILE")
}

#[test]
fn what_is_written_is_read_and_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Asset::open(&asset(dir.path(), |_| {})).unwrap();
    assert_eq!(opened.manifest().members.len(), 3);
    assert_eq!(opened.manifest().trigger_words, ["sks"]);
    let out = dir.path().join("out");
    let packages = opened.extract(&out).unwrap();
    assert_eq!(packages["unet"], out.join("unet.mlpackage"));
    assert_eq!(
        fs::read(packages["unet"].join("Manifest.json")).unwrap(),
        [2; 42]
    );
    let factors = opened.factors("unet", BTreeMap::new()).unwrap();
    assert_eq!((factors.rank, factors.rows.len()), (4, 2));
    assert!(opened.factors("text_encoder", BTreeMap::new()).is_none());
}

#[test]
fn another_zip_reader_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let file = asset(dir.path(), |_| {});
    let mut archive = ::zip::ZipArchive::new(fs::File::open(&file).unwrap()).unwrap();
    let mut names = Vec::new();
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).unwrap();
        assert_eq!(member.compression(), ::zip::CompressionMethod::Stored);
        assert_eq!(member.last_modified().unwrap(), ::zip::DateTime::default());
        assert!(member.extra_data().as_deref().is_none_or(<[u8]>::is_empty));
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, member.size());
        names.push(member.name().unwrap().into_owned());
    }
    assert_eq!(
        names,
        [
            "manifest.json",
            "unet.mlpackage/Data/com.apple.CoreML/model.mlmodel",
            "unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
            "unet.mlpackage/Manifest.json"
        ]
    );
}

#[test]
fn two_runs_give_the_same_bytes() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (asset(a.path(), |_| {}), asset(b.path(), |_| {}));
    assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
}

#[test]
fn a_flipped_byte_anywhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = asset(dir.path(), |_| {});
    let good = fs::read(&file).unwrap();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1 << (i % 8);
        assert!(check(&bad, &file).is_err(), "byte {i} of {}", good.len());
    }
    for cut in [0, 1, 21, 22, good.len() / 2, good.len() - 1] {
        assert!(check(&good[..cut], &file).is_err());
    }
    let longer = [&good[..], b"x"].concat();
    assert!(check(&longer, &file).is_err());
    check(&good, &file).unwrap();
}

#[test]
fn a_member_whose_bytes_were_exchanged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = asset(dir.path(), |_| {});
    let bytes = fs::read(&file).unwrap();
    let mut contents: BTreeMap<String, Content> = zip::read(&bytes, &file)
        .unwrap()
        .into_iter()
        .map(|(name, bytes)| (name.to_string(), Content::Bytes(bytes.to_vec())))
        .collect();
    let weights = "unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
    contents.insert(weights.into(), Content::Bytes(vec![9; 41]));
    zip::write(&file, &contents).unwrap();
    let message = Asset::open(&file).unwrap_err().to_string();
    assert!(
        message.contains(&format!("member `{weights}`: its SHA-256 is ")),
        "{message}"
    );

    contents.insert(weights.into(), Content::Bytes(vec![1; 40]));
    zip::write(&file, &contents).unwrap();
    let message = Asset::open(&file).unwrap_err().to_string();
    assert!(
        message.ends_with("it has 40 bytes, the manifest says 41"),
        "{message}"
    );

    contents.remove(weights);
    zip::write(&file, &contents).unwrap();
    let message = Asset::open(&file).unwrap_err().to_string();
    assert!(message.ends_with("weight.bin`: it is missing"), "{message}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let refuse = |name: &str| refused(&[("manifest.json", b"{}"), (name, b"x")]);
    assert_eq!(
        refuse("unet.mlpackage/../../evil"),
        "`FILE`: member `unet.mlpackage/../../evil`: the name leads out of the archive (`..`)"
    );
    assert_eq!(
        refuse("/etc/passwd"),
        "`FILE`: member `/etc/passwd`: the name is absolute"
    );
    assert!(refuse("unet.mlpackage\\..\\evil").contains("not allowed"));
    assert!(refuse("C:evil").contains("not allowed"));
    assert!(refuse("x//y").contains("an empty part"));
    assert!(refuse(&"x".repeat(300)).contains("too long"));
}

#[test]
fn other_zip_files_are_refused() {
    assert!(refused(&[("z", b""), ("a", b"")]).contains("are not in the form of an adapter asset"));
    assert!(refused(&[]).contains("no `manifest.json`"));
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "not a zip, and long enough to hold an end record").unwrap();
    let message = Asset::open(&text).unwrap_err().to_string();
    assert!(
        message.contains("the end record of a zip archive is missing"),
        "{message}"
    );
}

#[test]
fn a_member_of_no_package_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    let mut manifest = manifest();
    manifest.members.insert(
        "readme.txt".into(),
        Member {
            size: 1,
            sha256: hex(&Sha256::digest(b"x")),
        },
    );
    let contents = BTreeMap::from([
        (
            MANIFEST.to_string(),
            Content::Bytes(manifest.to_bytes(&file).unwrap()),
        ),
        ("readme.txt".to_string(), Content::Bytes(b"x".to_vec())),
    ]);
    zip::write(&file, &contents).unwrap();
    let message = Asset::open(&file).unwrap_err().to_string();
    assert!(
        message.contains("member `readme.txt`: it is not part of an adapter asset"),
        "{message}"
    );
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let message = |change: &dyn Fn(&mut Manifest)| {
        let dir = tempfile::tempdir().unwrap();
        let file = asset(dir.path(), change);
        Asset::open(&file).unwrap_err().to_string()
    };
    assert!(message(&|m| m.kind = "other".into()).contains("`kind` is `other`"));
    assert!(message(&|m| m.min_reader = 4).contains("needs a reader of version 4, this one is 3"));
    assert!(message(&|m| m.rows[1].row = 1).contains("not numbered from 0"));
    assert!(message(&|m| m.rows[1].row = usize::MAX).contains("not numbered from 0"));
    assert!(message(&|m| m.rows[1] = m.rows[0].clone()).contains("listed twice"));
    assert!(message(&|m| m.rows[0].component = "vae".into()).contains("not among `components`"));
    assert!(message(&|m| m.rows[0].width = 1 << 20).contains("width 1048576"));
    assert!(message(&|m| m.rows[0].taps = 0).contains("0 taps"));
    assert!(message(&|m| m.rows[0].taps = 50).contains("50 taps"));
    assert!(message(&|m| m.rows[1].taps = 9).contains("9 taps"));
    assert!(message(&|m| m.components.get_mut("unet").unwrap().rank = 0).contains("rank 0"));
}

#[test]
fn another_layout_is_refused_with_both_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Asset::open(&asset(dir.path(), |_| {})).unwrap();
    let slots = |table| BTreeMap::from([("unet".to_string(), table)]);
    opened.fits(&slots(table()), "any").unwrap();
    let other = SlotTable::new(32, table().modules()[..1].to_vec());
    let message = opened
        .fits(&slots(other.clone()), "any")
        .unwrap_err()
        .to_string();
    assert!(message.contains(&hex(&table().layout_hash())));
    assert!(message.contains(&hex(&other.layout_hash())));
    assert!(
        opened
            .fits(&BTreeMap::new(), "any")
            .unwrap_err()
            .to_string()
            .contains("no adapter slots")
    );
}

#[test]
fn an_asset_made_from_other_weights_is_refused_with_both_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = ("a".repeat(64), "b".repeat(64));
    let file = asset(dir.path(), |m| {
        m.base_source_hash = Some(own.clone());
        m.min_reader = READER_OF_SOURCE;
    });
    let opened = Asset::open(&file).unwrap();
    let slots = BTreeMap::from([("unet".to_string(), table())]);
    opened.fits(&slots, &own).unwrap();
    let message = opened.fits(&slots, &other).unwrap_err().to_string();
    assert!(
        message.contains(&own) && message.contains(&other),
        "{message}"
    );
    assert!(message.contains("--checkpoint"), "{message}");
}

#[test]
fn a_sampler_that_cannot_be_is_refused() {
    let with = |steps, guidance| {
        let dir = tempfile::tempdir().unwrap();
        let hint = crate::hint::SchedulerHint {
            scheduler: "lcm".into(),
            timestep_spacing: None,
            steps,
            guidance,
            because: "LCM-LoRA, by a test".into(),
        };
        let file = asset(dir.path(), |m| m.scheduler_hint = Some(hint.clone()));
        Asset::open(&file).map(|a| assert_eq!(a.manifest().scheduler_hint, Some(hint)))
    };
    assert!(with(4, 1.0).is_ok());
    for steps in [0, 1001] {
        let message = with(steps, 1.0).unwrap_err().to_string();
        assert!(message.contains(&format!("{steps} steps")), "{message}");
    }
}
