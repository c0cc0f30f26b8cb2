//! Inputs and outputs of a function, and the two passes that give it slots.

use super::adapted::slot_features;
use super::graph::Graph;
use crate::Result;
use crate::built::{Built, Feature};
use crate::slots::{SlotModule, SlotOptions, SlotTable};
use gesso_mil::{DType, TensorType, Var};

impl Graph {
    /// Declares an input that an app feeds.
    pub(crate) fn input(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        description: &str,
    ) -> Var {
        self.inputs.push(Feature {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            default: None,
            description: description.into(),
        });
        self.builder.input(name, TensorType::new(dtype, shape))
    }

    /// Name for the op that computes what the output `feature` shows: outputs are fp32, so in an fp32 program the op itself
    /// has the feature's name, and in an fp16 program it has its own and [`Graph::output`] adds a cast.
    pub(crate) fn output_name<'a>(&self, feature: &'a str, own: &'a str) -> &'a str {
        match self.dtype {
            DType::Fp32 => feature,
            _ => own,
        }
    }

    /// Declares `x`, named by [`Graph::output_name`], as the fp32 output `feature`.
    pub(crate) fn output(&mut self, feature: &str, x: &Var, description: &str) -> Result<()> {
        let x = self.cast(feature, x, DType::Fp32)?;
        self.outputs.push(Feature {
            name: x.name.clone(),
            dtype: DType::Fp32,
            shape: x.shape()?,
            default: None,
            description: description.into(),
        });
        self.returned.push(x);
        Ok(())
    }

    fn into_built(self) -> (Built, Vec<SlotModule>) {
        let built = Built {
            function: self.builder.finish(&self.returned),
            inputs: self.inputs,
            states: Vec::new(),
            outputs: self.outputs,
            generated: self.generated,
            slots: None,
            gathered: self.gathered,
        };
        (built, self.adaptable)
    }
}

/// Builds a function with slots, or without.
///
/// `assemble` makes a graph with the sites of `slots`, declares the features that an app feeds, calls [`Graph::declare_slots`]
/// with the table it is given, and adds the body. With slots it runs twice: the plain run says which modules there are.
pub(crate) fn built(
    slots: Option<SlotOptions>,
    assemble: impl Fn(Option<&SlotTable>) -> Result<Graph>,
) -> Result<Built> {
    let (plain, modules) = assemble(None)?.into_built();
    let Some(slots) = slots else {
        return Ok(plain);
    };
    let table = SlotTable::new(slots.rank, modules);
    let graph = assemble(Some(&table))?;
    let dtype = graph.dtype;
    let (mut built, _) = graph.into_built();
    built.inputs.extend(slot_features(&table, dtype));
    built.slots = Some(table);
    Ok(built)
}
