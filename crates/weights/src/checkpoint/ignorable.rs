//! Tensors that are known and not needed.

/// Which names a row is about.
enum Names {
    Exact(&'static str),
    Prefix(&'static str),
    Suffix(&'static str),
}

use Names::{Exact, Prefix, Suffix};

const EMA: &str = "averaged (EMA) copy; the plain weights are used";
const SCHEDULE: &str = "noise schedule; computed from the scheduler's configuration";
const POSITIONS: &str = "position ids; they are 0, 1, 2, …";
const POOLING: &str = "pooling and similarity of CLIP; not used by the UNet";
const TRAINING: &str = "state of a training run";
const LOSS: &str = "loss network of the VAE's training";
const MARKER: &str = "marker; read as a property of the model";
const SAFETY: &str = "safety checker; not converted";

/// First match wins. Names are the file's own, without a `state_dict.` wrapper.
const ROWS: &[(Names, &str)] = &[
    (Prefix("model_ema."), EMA),
    (Prefix("first_stage_model.model_ema."), EMA),
    (Suffix("position_ids"), POSITIONS),
    (Exact("betas"), SCHEDULE),
    (Prefix("alphas_cumprod"), SCHEDULE),
    (Prefix("sqrt_"), SCHEDULE),
    (Prefix("log_one_minus_"), SCHEDULE),
    (Prefix("posterior_"), SCHEDULE),
    (Exact("logvar"), SCHEDULE),
    (Exact("lvlb_weights"), SCHEDULE),
    (Prefix("denoiser."), SCHEDULE),
    (Suffix("logit_scale"), POOLING),
    (Suffix("text_projection"), POOLING),
    (Suffix("text_projection.weight"), POOLING),
    (Prefix("first_stage_model.loss."), LOSS),
    (Prefix("loss."), LOSS),
    (Exact("global_step"), TRAINING),
    (Exact("epoch"), TRAINING),
    (Prefix("optimizer"), TRAINING),
    (Prefix("lr_scheduler"), TRAINING),
    (Prefix("embedding_manager."), TRAINING),
    (Exact("v_pred"), MARKER),
    (Exact("ztsnr"), MARKER),
    (Prefix("safety_checker."), SAFETY),
];

/// Why a tensor of this name is not needed; `None` when nothing is known about it.
pub(super) fn why(name: &str) -> Option<&'static str> {
    ROWS.iter()
        .find(|(names, _)| match names {
            Exact(n) => name == *n,
            Prefix(n) => name.starts_with(n),
            Suffix(n) => name
                .strip_suffix(n)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        })
        .map(|row| row.1)
}
