//! Programs for newer systems.

use crate::built::Built;
use crate::recipe::Target;
use crate::states::STATE_OPSET;
use crate::{Error, Result};
use gesso_mil::{Function, Program};
use std::collections::BTreeMap;

/// The target whose programs have this opset.
pub(crate) fn of_opset(opset: &str) -> Target {
    match opset {
        STATE_OPSET => Target::Ios18,
        _ => Target::Ios16,
    }
}

/// Gives `built` the opset of iOS 18.
///
/// Errors: those of [`for_ios18`].
pub(crate) fn as_ios18(built: &mut Built) -> Result<()> {
    built.function = for_ios18(built.function.clone())?;
    Ok(())
}

/// The function with the opset of iOS 18, which packages with several functions need. Every op that the families use means the
/// same in both.
///
/// Errors: [`Error::Target`] when the program is not valid in that opset.
fn for_ios18(mut function: Function) -> Result<Function> {
    if let Some(block) = function.blocks.remove(&function.opset) {
        function.blocks.insert(STATE_OPSET.into(), block);
    }
    function.opset = STATE_OPSET.into();
    let program = Program {
        version: 1,
        functions: BTreeMap::from([("main".to_string(), function)]),
        attributes: BTreeMap::new(),
    };
    if let Some(finding) = gesso_mil::verify(&program).first() {
        return Err(Error::Target {
            reason: finding.to_string(),
        });
    }
    let mut functions = program.functions.into_values();
    functions.next().ok_or_else(|| Error::Target {
        reason: "it has no function".into(),
    })
}
