//! Stable Diffusion 2: a folder and a single file of the same weights, and what the packages say about the prediction.

use super::*;
use gesso_testkit::fixture;

const FOLDER: &str = "goldens/models/sd2";

fn single(prediction_type: Option<&str>) -> Checkpoint {
    let options = OpenOptions {
        config_dir: Some(fixture(FOLDER)),
        prediction_type: prediction_type.map(str::to_string),
        ..OpenOptions::default()
    };
    Checkpoint::open(fixture(FOLDER).join("single_file.safetensors"), &options).unwrap()
}

fn recipe() -> Recipe {
    Recipe {
        size: Some((128, 128)),
        ..Recipe::default()
    }
}

/// What the UNet's package says about its prediction.
fn stated(out: &Out) -> String {
    let package = Package::open(&out.package("Unet")).unwrap();
    let metadata = package.model.description.unwrap().metadata.unwrap();
    metadata.user_defined["prediction_type"].clone()
}

#[test]
fn a_folder_and_a_single_file_give_the_same_packages() {
    let folder = Out::new(&open(&fixture(FOLDER)), &recipe());
    let file = Out::new(&single(None), &recipe());
    let (a, b) = (folder.info(), file.info());
    assert_eq!((a.family.as_str(), b.family.as_str()), ("sd2", "sd2"));
    assert_eq!(a.source_hash, b.source_hash);
    assert_eq!(a.scheduler, b.scheduler);
    let packages = |out: &Out| {
        let mut all = hashes(out.path());
        // It lists the tensors that the single file has besides.
        all.remove("gesso.json");
        all
    };
    assert_eq!(packages(&folder), packages(&file));
    assert!(
        packages(&folder)
            .keys()
            .any(|n| n.starts_with("UnetAdaptable"))
    );
    assert!(
        packages(&folder)
            .keys()
            .any(|n| n.starts_with("VAEEncoder"))
    );
    assert!(a.unused.is_empty());
    let skipped: Vec<&str> = b.unused.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(skipped.len(), 15, "{skipped:?}");
}

#[test]
fn the_prediction_type_is_in_the_package_and_can_be_overruled() {
    let own = Out::new(&single(None), &recipe());
    assert_eq!(stated(&own), "v_prediction");
    assert_eq!(own.info().scheduler["prediction_type"], "v_prediction");
    let other = Out::new(&single(Some("epsilon")), &recipe());
    assert_eq!(stated(&other), "epsilon");
    let scheduler = other.info().scheduler;
    assert_eq!(scheduler["prediction_type"], "epsilon");
    // All else of the scheduler's configuration stays.
    assert_eq!(scheduler["_class_name"], "DDIMScheduler");
}
