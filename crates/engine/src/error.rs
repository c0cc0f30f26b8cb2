//! Errors of this crate.

/// What can go wrong when a model is loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model is not an ML Program or its messages do not form one.
    #[error("`{model}` is not a program that can be run: {reason}")]
    NotAProgram {
        /// Name of the model, for instance its path.
        model: String,
        /// What is wrong.
        reason: String,
    },
    /// Ops without a kernel.
    #[error("no kernel for {}; first used by `{first}`", quoted(.kinds))]
    UnsupportedOps {
        /// Op names, sorted.
        kinds: Vec<String>,
        /// Name of the first such op's output.
        first: String,
    },
    /// Something of the format that the engine does not run.
    #[error("`{name}`: {what} is not supported")]
    Unsupported {
        /// Op, input or function.
        name: String,
        /// What is not supported.
        what: String,
    },
    /// Declared types differ from computed ones, or the program is broken in another way.
    #[error("the program is not valid: {finding}{}", and_more(*.more))]
    Invalid {
        /// First finding of the verifier.
        finding: String,
        /// Number of further findings.
        more: usize,
    },
    /// No such function.
    #[error("no function `{name}`; the model has {}", quoted(.known))]
    UnknownFunction {
        /// Name asked for.
        name: String,
        /// Functions of the model.
        known: Vec<String>,
    },
    /// An input that the function does not have.
    #[error("function `{function}` has no input `{name}`; it has {}{}", quoted(.known), hint(.nearest))]
    UnknownInput {
        /// Function.
        function: String,
        /// Name given.
        name: String,
        /// Inputs of the function.
        known: Vec<String>,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// A required input is missing.
    #[error("input `{name}` of function `{function}` is missing; expected {expected}")]
    MissingInput {
        /// Function.
        function: String,
        /// Input.
        name: String,
        /// Its declared type.
        expected: String,
    },
    /// An input has another shape or dtype than declared.
    #[error("input `{name}` is {found}, but {expected} is declared")]
    InputType {
        /// Input.
        name: String,
        /// Declared type.
        expected: String,
        /// Dtype and shape given.
        found: String,
    },
    /// A tensor whose number of elements differs from its shape.
    #[error("tensor `{name}` has {found} elements, but its shape {shape:?} needs {expected}")]
    Length {
        /// Input.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Elements that the shape needs.
        expected: usize,
        /// Elements there.
        found: usize,
    },
    /// A probe names a value that is not in the function.
    #[error("no value `{name}` in function `{function}`{}", hint_of(.nearest))]
    UnknownProbe {
        /// Function.
        function: String,
        /// Name asked for.
        name: String,
        /// The most similar names.
        nearest: Vec<String>,
    },
    /// Who looked at a value while the function ran wants it to end.
    #[error("value `{value}`: {reason}")]
    Tap {
        /// Name of the value.
        value: String,
        /// What the tap said.
        reason: String,
    },
    /// A prediction with a state, but without one of the buffers that the function has.
    #[error(
        "function `{function}` needs state `{name}`, which is not there\n\nhint: make the state for this function"
    )]
    MissingState {
        /// Function.
        function: String,
        /// State.
        name: String,
    },
    /// A buffer that a state does not have.
    #[error("no state `{name}`; there is {}{}", quoted(.known), hint(.nearest))]
    UnknownState {
        /// Name asked for.
        name: String,
        /// Buffers of the state.
        known: Vec<String>,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// A state has another type than declared, or is written with a tensor that does not fit.
    #[error("state `{name}` is declared {expected}, found {found}")]
    StateType {
        /// State.
        name: String,
        /// Declared type.
        expected: String,
        /// Dtype and shape found.
        found: String,
    },
    /// An op cannot be computed.
    #[error("op `{op}` (`{kind}`): {reason}")]
    Op {
        /// Name of the op's first output.
        op: String,
        /// Op name.
        kind: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A constant cannot be decoded.
    #[error("constant `{name}`: {reason}")]
    Constant {
        /// Name of the variable.
        name: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// An op's output has a NaN or an infinity; only with `RunOptions::check_finite`.
    #[error("op `{op}` (`{kind}`{}) gives {value} at element {index} of {shape:?}", in_module(.module))]
    NonFinite {
        /// Name of the output.
        op: String,
        /// Module that it belongs to, as [`crate::ValueInfo::module`].
        module: String,
        /// Op name.
        kind: String,
        /// NaN or an infinity.
        value: f32,
        /// Index of the first such element, row-major.
        index: usize,
        /// Shape of the output.
        shape: Vec<usize>,
    },
    /// The caller set `RunOptions::cancel`.
    #[error("cancelled before op `{op}`")]
    Cancelled {
        /// Name of the first op that did not run.
        op: String,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Number asked for; 0 = all.
        threads: usize,
        /// Why.
        reason: String,
    },
}

fn quoted(names: &[String]) -> String {
    let list: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    list.join(", ")
}

fn and_more(n: usize) -> String {
    match n {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    }
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|n| format!("\n\nhint: did you mean `{n}`?"))
        .unwrap_or_default()
}

fn hint_of(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        [one] => format!("\n\nhint: did you mean `{one}`?"),
        several => format!("\n\nhint: did you mean one of {}?", quoted(several)),
    }
}

fn in_module(module: &str) -> String {
    match module {
        "" => String::new(),
        _ => format!(", module `{module}`"),
    }
}

/// Up to three candidates: the most similar ones, then those that `name` is a part of.
pub(crate) fn nearest_few<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = candidates
        .clone()
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= name.len().div_ceil(3))
        .collect();
    near.sort_unstable();
    let holding = candidates.filter(|c| !name.is_empty() && c.contains(name));
    let mut few: Vec<String> = Vec::new();
    for candidate in near.into_iter().map(|(_, c)| c).chain(holding) {
        if few.len() < 3 && !few.iter().any(|f| f == candidate) {
            few.push(candidate.into());
        }
    }
    few
}

/// The candidate with the smallest edit distance to `name`, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|c| (distance(name, c), c))
        .min()
        .filter(|(d, _)| *d <= name.len().div_ceil(3))
        .map(|(_, c)| c.to_string())
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let names = ["sample", "timestep", "encoder_hidden_states"];
        assert_eq!(
            nearest("encoder_hidden_state", names.into_iter()),
            Some("encoder_hidden_states".to_string())
        );
        assert_eq!(nearest("zzz", names.into_iter()), None);
    }

    #[test]
    fn nearest_names() {
        let names = ["conv1", "conv2", "a_conv1_b", "conv11", "other"];
        let few = |name| nearest_few(name, names.into_iter());
        assert_eq!(few("conv1"), ["conv1", "conv11", "conv2"]);
        assert_eq!(few("v1_b"), ["a_conv1_b"]);
        assert!(few("zzz").is_empty() && few("").is_empty());
    }
}
