//! Whole folders, of compiled models too.

use super::*;
use support::{lora, names, refuses, shapes};

#[test]
fn a_folder_of_compiled_models_gets_slots() {
    let root = tempfile::tempdir().unwrap();
    let apple = fixture("apple");
    let folder = root.path().join("downloaded");
    let resources = folder.join("Resources");
    std::fs::create_dir_all(&resources).unwrap();
    for (package, name) in [(UNET, "Unet"), (TEXT, "TextEncoder")] {
        let target = resources.join(format!("{name}.mlmodelc"));
        succeeds(
            gesso()
                .arg("compile")
                .arg(apple.join(package))
                .arg("-o")
                .arg(target),
        );
    }
    std::fs::write(folder.join("README.md"), "words").unwrap();
    let out = retrofitted(&folder);
    assert_eq!(names(&out), ["README.md", "Resources", "gesso.json"]);
    assert_eq!(
        names(&out.join("Resources")),
        [
            "TextEncoder.mlmodelc",
            "TextEncoderAdaptable.mlmodelc",
            "Unet.mlmodelc",
            "UnetAdaptable.mlmodelc"
        ]
    );
    let golden = golden();
    let fed = inputs(&golden, false);
    let after = predict(&out.join("Resources/UnetAdaptable.mlmodelc"), &fed);
    assert_eq!(bits(&predict(&apple.join(UNET), &fed)), bits(&after));
    adapter(&fixture(LORA).join("a.safetensors"), &out);

    // A single compiled model, to either form.
    for form in ["mlmodelc", "mlpackage"] {
        let one = root.path().join(format!("One.{form}"));
        let source = resources.join("Unet.mlmodelc");
        succeeds(gesso().arg("retrofit").arg(source).arg("-o").arg(&one));
        assert_eq!(bits(&after), bits(&predict(&one, &fed)), "{form}");
    }
}

/// Pixels of a picture.
pub(crate) fn pixels(path: &Path) -> Vec<u8> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut data = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut data).unwrap();
    data
}

/// A folder that `gesso convert` wrote, as a folder of somebody else: no `gesso.json`, no slots.
pub(crate) fn foreign(root: &Path) -> PathBuf {
    let folder = root.join("foreign");
    let mut command = gesso();
    let command = command.args(["convert", "--adapter-rank", "0", "--bits", "6", "-o"]);
    succeeds(command.arg(&folder).arg(shapes()));
    std::fs::remove_file(folder.join("gesso.json")).unwrap();
    std::fs::remove_file(folder.join("selftest.safetensors")).unwrap();
    folder
}

#[test]
pub(crate) fn a_retrofitted_pipeline_draws_what_a_converted_one_draws() {
    let root = tempfile::tempdir().unwrap();
    let out = retrofitted(&foreign(root.path()));
    let converted = root.path().join("converted");
    let mut command = gesso();
    let command = command.args(["convert", "--bits", "6", "-o"]);
    succeeds(command.arg(&converted).arg(shapes()));
    let (a, b) = (
        FolderInfo::open(&out).unwrap(),
        FolderInfo::open(&converted).unwrap(),
    );
    for (component, slots) in &b.slots {
        assert_eq!(a.slots[component], *slots, "{component}");
    }
    let asset = adapter(&lora("sketch"), &converted);
    let own = adapter(&lora("sketch"), &out);
    assert_eq!(std::fs::read(&asset).unwrap(), std::fs::read(own).unwrap());
    // A folder without `gesso.json` does not say its schedule and scaling factor.
    let stated = FolderInfo {
        scheduler: b.scheduler.clone(),
        scaling_factor: b.scaling_factor,
        ..a
    };
    stated.write(&out).unwrap();
    let pictures = [&out, &converted].map(|folder| {
        let picture = folder.with_extension("png");
        let mut command = gesso();
        command.args(["generate", "--prompt", "a red circle", "--steps", "2", "-o"]);
        command.arg(&picture).arg("--adapter").arg(&asset);
        succeeds(command.arg(folder));
        pixels(&picture)
    });
    assert!(pictures[0] == pictures[1]);

    let mut command = gesso();
    let command = command.args(["verify", "--steps", "0", "--min-psnr", "20"]);
    succeeds(command.arg(&out).arg("--against").arg(shapes()));
    succeeds(gesso().args(["doctor", "--app", "gesso"]).arg(&out));
    succeeds(gesso().args(["lint"]).arg(&out));
    let said = succeeds(gesso().arg("inspect").arg(&out));
    assert!(said.contains("UnetAdaptable"), "{said}");
    let twin = out.join("UnetAdaptable.mlmodelc");
    assert!(succeeds(gesso().arg("inspect").arg(twin)).contains("adapter_64"));

    let again = root.path().join("again");
    refuses(
        gesso().arg("retrofit").arg(&out).arg("-o").arg(again),
        &["gets no adapter slots: it has them already"],
    );
}
