//! Linear layers with an adapter slot.

use super::graph::{Graph, Kernel, dim};
use crate::built::Feature;
use crate::slots::{Role, SlotModule, SlotTable};
use crate::{Error, Result};
use gesso_mil::{DType, TensorType, Var};
use std::collections::BTreeMap;

/// Position of the channels in the activations around a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    /// `[B, C, 1, S]` or `[B, C, H, W]`; the layer is a 1×1 convolution.
    Second,
    /// `[B, S, C]`; the layer is a `linear`.
    Last,
}

/// The input of one or more linear layers, with its form for the slots once one was needed.
#[derive(Debug)]
pub(crate) struct Input {
    x: Var,
    rows: Option<Var>,
}

impl From<&Var> for Input {
    fn from(x: &Var) -> Self {
        Self {
            x: x.clone(),
            rows: None,
        }
    }
}

/// The row table and the inputs `adapter_W [n_W, R, W]` by width.
#[derive(Debug)]
pub(super) struct Slots {
    table: SlotTable,
    inputs: BTreeMap<usize, Var>,
}

/// One linear layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    /// Module path; `<path>.weight` and `<path>.bias` are its tensors.
    pub(crate) path: &'a str,
    /// Name of the value that it returns.
    pub(crate) name: &'a str,
    /// Output width.
    pub(crate) outputs: usize,
    /// Where the channels are.
    pub(crate) channels: Channels,
    /// Whether it has a bias.
    pub(crate) bias: bool,
}

impl Graph {
    /// Declares the inputs `adapter_W`, ascending by width, and uses them from here on.
    ///
    /// Without a table nothing is declared.
    pub(crate) fn declare_slots(&mut self, table: Option<&SlotTable>) {
        let Some(table) = table else { return };
        let rank = table.rank();
        let mut inputs = BTreeMap::new();
        for (width, rows) in table.widths() {
            let ty = TensorType::new(self.dtype, &[rows, rank, width]);
            let input = self.builder.input(&SlotTable::input_name(width), ty);
            inputs.insert(width, input);
        }
        self.slots = Some(Slots {
            table: table.clone(),
            inputs,
        });
    }

    /// A linear layer that can carry an adapter: `W·x + b`, and `+ up·(down·x)` when slots are declared.
    ///
    /// A slot adds only ops and immediate constants, so the weights and their order are those of the plain program.
    pub(crate) fn adaptable(&mut self, layer: Layer<'_>, input: &mut Input) -> Result<Var> {
        let Layer { path, name, .. } = layer;
        let axis = match layer.channels {
            Channels::Second => 1,
            Channels::Last => 2,
        };
        self.adaptable.push(SlotModule {
            component: self.component.into(),
            module: path.into(),
            inputs: dim(&input.x, axis)?,
            outputs: layer.outputs,
        });
        let own = match self.slots {
            Some(_) => format!("{name}_base"),
            None => name.into(),
        };
        let x = input.x.clone();
        let own = match layer.channels {
            Channels::Second => {
                self.conv(path, &own, &x, layer.outputs, Kernel::POINT, layer.bias)?
            }
            Channels::Last => self.linear(path, &own, &x, layer.outputs, layer.bias)?,
        };
        if self.slots.is_none() {
            return Ok(own);
        }
        let product = self.adapter_product(layer, input)?;
        let product = self.reshaped(&format!("{name}_adapter_like_base"), &product, &own)?;
        self.binary("add", name, &own, &product)
    }

    /// `up·(down·x)`: `[B, O, S]` or `[B, S, O]`.
    fn adapter_product(&mut self, layer: Layer<'_>, input: &mut Input) -> Result<Var> {
        let Layer { path, name, .. } = layer;
        let rows = match (&input.rows, layer.channels) {
            (Some(rows), _) => rows.clone(),
            (None, Channels::Last) => input.x.clone(),
            (None, Channels::Second) => {
                let [b, c, positions] = flattened(&input.x)?;
                self.reshape(&format!("{name}_rows"), &input.x, &[b, c, positions])?
            }
        };
        input.rows = Some(rows.clone());
        let (low, product) = (format!("{name}_low"), format!("{name}_adapter"));
        let down = self.slot_row(path, Role::Down, &format!("{name}_down"))?;
        let up_name = format!("{name}_up");
        match layer.channels {
            Channels::Second => {
                let low = self.matmul(&low, &down, &rows, [false, false])?;
                let up = self.slot_row(path, Role::Up, &up_name)?;
                self.matmul(&product, &up, &low, [true, false])
            }
            Channels::Last => {
                let low = self.matmul(&low, &rows, &down, [false, true])?;
                let up = self.slot_row(path, Role::Up, &up_name)?;
                self.matmul(&product, &low, &up, [false, false])
            }
        }
    }

    /// `x` in the shape of `like`.
    fn reshaped(&mut self, name: &str, x: &Var, like: &Var) -> Result<Var> {
        let shape = like.shape()?;
        if x.shape()? == shape {
            return Ok(x.clone());
        }
        self.reshape(name, x, &shape)
    }

    /// `adapter_W[row] [1, R, W]`.
    fn slot_row(&mut self, path: &str, role: Role, name: &str) -> Result<Var> {
        let missing = || Error::Config {
            component: self.component.into(),
            field: "adapter slots".into(),
            expected: format!("a row for `{path}`"),
            found: "none".into(),
        };
        let slots = self.slots.as_ref().ok_or_else(missing)?;
        let slot = slots
            .table
            .row(self.component, path, role)
            .ok_or_else(missing)?;
        let input = slots.inputs.get(&slot.width).ok_or_else(missing)?.clone();
        let (row, width, rank) = (slot.row, slot.width, slots.table.rank());
        self.slice(name, &input, &[row, 0, 0], &[row + 1, rank, width])
    }
}

/// `[B, C, H·W]` of `[B, C, H, W]`.
fn flattened(x: &Var) -> Result<[usize; 3]> {
    Ok([dim(x, 0)?, dim(x, 1)?, dim(x, 2)? * dim(x, 3)?])
}

/// The optional inputs of a table, ascending by width.
pub(super) fn slot_features(table: &SlotTable, dtype: DType) -> impl Iterator<Item = Feature> {
    let rank = table.rank();
    table
        .widths()
        .into_iter()
        .map(move |(width, rows)| Feature {
            name: SlotTable::input_name(width),
            dtype,
            shape: vec![rows, rank, width],
            default: Some(0.0),
            description: format!("Adapter factors of width {width}; zero when missing"),
        })
}
