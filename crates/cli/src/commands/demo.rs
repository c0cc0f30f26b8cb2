//! `gesso demo`: the main job on the built-in shapes model.

use super::generate::sample;
use super::{Global, adapter, convert, print_json, verify};
use crate::args::{
    self, Adapter, AssetForm, Demo, EnginePrecision, Rng, Sampling, Scheduler, Source,
};
use crate::base::Base;
use crate::networks::EngineNetworks;
use crate::picture::Picture;
use crate::progress::Line;
use crate::sampler::Settled;
use crate::table::{self, Table};
use crate::{Outcome, assets, embedded, source};
use anyhow::Context;
use gesso_convert::Recipe;
use gesso_coreml::stage::{Overwrite, Staging};
use gesso_pipeline::Prompt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const BITS: [u8; 3] = [16, 8, 4];
/// (prompt, seed).
const PROMPTS: [(&str, u64); 4] = [
    ("a red circle", 3),
    ("a large yellow star on black", 5),
    ("two blue squares", 7),
    ("a green heart on cream", 11),
];
const STEPS: u32 = 20;
const GUIDANCE: f32 = 6.0;

pub(super) fn run(options: &Demo, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let overwrite = if options.keep {
        Overwrite::Refuse
    } else {
        Overwrite::Force
    };
    let staging = Staging::new(&options.output, overwrite)?;
    let folder = staging.path().to_path_buf();
    embedded::write(&folder.join("shapes"))?;
    let mut rows = Vec::new();
    for bits in BITS {
        rows.push(one_width(&folder, bits, global)?);
    }
    let grid = grid(&rows);
    std::fs::write(
        folder.join("grid.png"),
        grid.png(&[("Software", "Gesso".into())])?,
    )?;
    staging.commit()?;
    let passed = rows.iter().all(|row| row.passed);
    let seconds = start.elapsed().as_secs_f64();
    if global.json {
        let rows: Vec<_> = rows.iter().map(Width::json).collect();
        print_json(
            &serde_json::json!({ "schema": 1, "passed": passed, "widths": rows, "seconds": seconds }),
        )?;
    } else {
        print!("{}", summary(&rows).text());
        println!(
            "\nlook at `{}` ({:.1} s)",
            options.output.join("grid.png").display(),
            seconds
        );
        let out = options.output.display();
        println!(
            "try: gesso generate {out}/bits8 --prompt \"a small teal moon on navy\" \
             --adapter {out}/bits8/sketch.mlmodelcassets:0.8 -o moon.png"
        );
    }
    Ok(if passed {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// What one bit width gave.
struct Width {
    bits: u8,
    bytes: u64,
    convert_seconds: f64,
    /// PSNR of the UNet in dB.
    unet_db: f64,
    /// PSNR of the picture after the verify steps in dB.
    image_db: f64,
    /// (style, bytes of the asset, PSNR of the UNet with it against merged weights).
    styles: Vec<(String, u64, f64)>,
    seconds_per_picture: f64,
    passed: bool,
    /// One row of pictures per style, base first.
    pictures: Vec<Vec<Picture>>,
}

impl Width {
    fn json(&self) -> serde_json::Value {
        let styles: Vec<_> = self
            .styles
            .iter()
            .map(|(name, bytes, db)| serde_json::json!({ "name": name, "bytes": bytes, "unet_psnr_db": db }))
            .collect();
        serde_json::json!({
            "bits": self.bits, "bytes": self.bytes, "convert_seconds": self.convert_seconds, "unet_psnr_db": self.unet_db,
            "image_psnr_db": self.image_db, "styles": styles, "seconds_per_picture": self.seconds_per_picture,
            "passed": self.passed,
        })
    }
}

fn one_width(folder: &Path, bits: u8, global: Global) -> anyhow::Result<Width> {
    let shapes = folder.join("shapes/base");
    let out = folder.join(format!("bits{bits}"));
    let checkpoint = source::checkpoint(&shapes, &Source::default())?;
    let start = Instant::now();
    let recipe = Recipe {
        bits,
        origin: convert::origin(&checkpoint),
        ..Recipe::default()
    };
    let target = convert::Target {
        path: &out,
        force: false,
        format: args::Format::Both,
    };
    convert::folder(&checkpoint, &recipe, target, global)?;
    let convert_seconds = start.elapsed().as_secs_f64();
    let base = Base::open(&out)?;

    let losses = verify::losses(&verify_options(&out, &shapes, None), global)?;
    let mut passed = losses.iter().all(crate::measure::Loss::passed);
    let by_name = verify::by_name(&losses);
    let (unet_db, image_db) = (figure(&by_name, "Unet"), figure(&by_name, "image"));
    let mut styles = Vec::new();
    for style in embedded::STYLES {
        let lora = folder.join(format!("shapes/lora/{style}.safetensors"));
        let asset = out.join(format!("{style}.mlmodelcassets"));
        adapter::asset(&adapter_options(&lora, &out, &asset), &base, global)?;
        let losses = verify::losses(
            &verify_options(&out, &shapes, Some((&asset, &lora))),
            global,
        )?;
        passed &= losses.iter().all(crate::measure::Loss::passed);
        let db = figure(&verify::by_name(&losses), "UnetAdaptable");
        styles.push((style.to_string(), std::fs::metadata(&asset)?.len(), db));
    }
    let start = Instant::now();
    let pictures = pictures(&base, &out, global)?;
    let count: usize = pictures.iter().map(Vec::len).sum();
    Ok(Width {
        bits,
        bytes: base
            .info
            .packages
            .values()
            .filter(|p| p.weights_of.is_none())
            .map(|p| p.bytes_after)
            .sum(),
        convert_seconds,
        unet_db,
        image_db,
        styles,
        seconds_per_picture: start.elapsed().as_secs_f64() / count.max(1) as f64,
        passed,
        pictures,
    })
}

fn figure(by_name: &std::collections::BTreeMap<&str, f64>, name: &str) -> f64 {
    by_name.get(name).copied().unwrap_or(f64::NAN)
}

fn verify_options(
    folder: &Path,
    against: &Path,
    adapter: Option<(&PathBuf, &PathBuf)>,
) -> verify::Options {
    verify::Options {
        folder: folder.into(),
        reference: None,
        against: Some(against.into()),
        adapter: adapter.map(|(asset, _)| asset.to_string_lossy().into_owned()),
        lora: adapter
            .map(|(_, lora)| lora.to_string_lossy().into_owned())
            .into_iter()
            .collect(),
        components: if adapter.is_some() {
            vec![args::Part::Unet]
        } else {
            Vec::new()
        },
        precision: EnginePrecision::Fp32,
        per_layer: false,
        plot: None,
        probe: Vec::new(),
        output: None,
        inputs: None,
        function: None,
        force: false,
        steps: 8,
        prompt: PROMPTS[0].0.into(),
        min_psnr: None,
        source: Source::default(),
    }
}

fn adapter_options(lora: &Path, base: &Path, output: &Path) -> Adapter {
    Adapter {
        loras: vec![lora.into()],
        base: base.into(),
        output: output.into(),
        name: None,
        form: AssetForm::Slots,
        strength: 1.0,
        exact: true,
        merge: false,
        rank: None,
        bits: 16,
        checkpoint: None,
        source: Source::default(),
        ignore: Vec::new(),
        jobs: 0,
        force: false,
    }
}

/// One row per style, base first, one picture per prompt.
fn pictures(base: &Base, out: &Path, global: Global) -> anyhow::Result<Vec<Vec<Picture>>> {
    let mut line = Line::new();
    let count = (1 + embedded::STYLES.len()) * PROMPTS.len() * STEPS as usize;
    line.begin(
        &format!("pictures at {} bits", base.info.recipe.bits),
        count as u64,
    );
    let (width, height) = base.size();
    std::iter::once(None)
        .chain(embedded::STYLES.map(Some))
        .map(|style| {
            let asset = style.map(|s| {
                out.join(format!("{s}.mlmodelcassets"))
                    .to_string_lossy()
                    .into_owned()
            });
            let loaded = assets::load(asset.as_slice(), base)?;
            let mut networks =
                EngineNetworks::load(base, &loaded.adapters, global.engine(EnginePrecision::Fp32))?;
            PROMPTS
                .iter()
                .map(|(prompt, seed)| {
                    let request = sampling(prompt, *seed);
                    let settled = Settled::new(&request, &[])?;
                    let plain = Prompt::plain(*prompt);
                    let output = sample(base, &request, &settled, plain, &mut networks, &mut line)
                        .with_context(|| format!("generating `{prompt}`"))?;
                    Ok(Picture {
                        width,
                        height,
                        rgb: output.rgb8(),
                    })
                })
                .collect()
        })
        .collect()
}

fn sampling(prompt: &str, seed: u64) -> Sampling {
    Sampling {
        prompt: prompt.into(),
        negative: String::new(),
        seed,
        rng: Rng::Numpy,
        steps: Some(STEPS),
        scheduler: Some(Scheduler::DpmPp2m),
        guidance: Some(GUIDANCE),
    }
}

/// Prompts down, styles across, once per bit width.
fn grid(rows: &[Width]) -> Picture {
    const GAP: usize = 4;
    const HEAD: usize = 24;
    const SIDE: usize = 108;
    let cell = rows
        .first()
        .and_then(|r| r.pictures.first()?.first())
        .map_or((128, 128), |p| (p.width, p.height));
    let styles = 1 + embedded::STYLES.len();
    let group = styles * (cell.0 + GAP) + 3 * GAP;
    let mut grid = Picture::filled(
        SIDE + rows.len() * group,
        2 * HEAD + PROMPTS.len() * (cell.1 + GAP),
        [248; 3],
    );
    for (g, width) in rows.iter().enumerate() {
        let left = SIDE + g * group;
        grid.write(&format!("{} bits", width.bits), left, 8, [0; 3]);
        for (column, pictures) in width.pictures.iter().enumerate() {
            let x = left + column * (cell.0 + GAP);
            let name = column
                .checked_sub(1)
                .and_then(|i| embedded::STYLES.get(i))
                .unwrap_or(&"base");
            grid.write(name, x, HEAD + 8, [90; 3]);
            for (row, picture) in pictures.iter().enumerate() {
                grid.paste(picture, x, 2 * HEAD + row * (cell.1 + GAP));
            }
        }
    }
    for (row, (prompt, _)) in PROMPTS.iter().enumerate() {
        grid.write_wrapped(
            prompt,
            (6, 2 * HEAD + row * (cell.1 + GAP) + 8),
            12,
            8,
            [0; 3],
        );
    }
    grid
}

fn summary(rows: &[Width]) -> Table {
    let mut header = vec![
        "bits",
        "weights",
        "convert s",
        "UNet PSNR dB",
        "image PSNR dB",
    ];
    header.extend([
        "sketch dB",
        "pixel dB",
        "watercolor dB",
        "assets",
        "s per picture",
        "",
    ]);
    let mut table = Table::new(&header);
    for row in rows {
        let mut cells = vec![
            row.bits.to_string(),
            table::bytes(row.bytes),
            table::seconds(row.convert_seconds),
            table::db(row.unet_db),
            table::db(row.image_db),
        ];
        cells.extend(row.styles.iter().map(|(_, _, db)| table::db(*db)));
        cells.push(table::bytes(row.styles.iter().map(|s| s.1).sum()));
        cells.push(table::seconds(row.seconds_per_picture));
        cells.push(if row.passed {
            String::new()
        } else {
            "FAILED".into()
        });
        table.row(&cells);
    }
    table
}
