//! Assets that an earlier version wrote go on working.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use support::{gesso, shapes, succeeds};

#[test]
fn an_old_asset_gives_the_picture_of_a_new_one() {
    let scratch = tempfile::tempdir().unwrap();
    let old = gesso_testkit::fixture("formats/old-assets");
    let base = scratch.path().join("base");
    let mut convert = gesso();
    convert
        .arg("convert")
        .arg(shapes())
        .args(["--format", "mlpackage", "--bits", "8"]);
    succeeds(convert.arg("-o").arg(&base));
    let picture = |adapter: Option<&std::path::Path>| {
        let file = scratch.path().join("x.png");
        let mut command = gesso();
        command
            .arg("generate")
            .arg(&base)
            .args(["--prompt", "a red circle"]);
        command.args(["--steps", "1", "--force", "-o"]).arg(&file);
        if let Some(asset) = adapter {
            command.arg("--adapter").arg(asset);
        }
        succeeds(&mut command);
        std::fs::read(file).unwrap()
    };
    let plain = picture(None);
    for (name, strength) in [("plain", "0.75"), ("dora", "1")] {
        let file = format!("{name}.mlmodelcassets");
        let new = scratch.path().join(&file);
        let mut adapter = gesso();
        adapter
            .arg("adapter")
            .arg(old.join(format!("{name}.safetensors")));
        adapter
            .arg("--base")
            .arg(&base)
            .arg("--checkpoint")
            .arg(shapes());
        succeeds(adapter.args(["--strength", strength, "-o"]).arg(&new));
        let was = picture(Some(&old.join(&file)));
        assert!(was == picture(Some(&new)), "{name}");
        assert!(was != plain, "{name} changes nothing");
        let text = succeeds(gesso().arg("inspect").arg(old.join(&file)));
        assert!(text.contains(&format!("name: {name}")), "{text}");
    }
}
