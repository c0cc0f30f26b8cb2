//! Layers with an adapter slot.

use super::graph::{Graph, Kernel, dim};
use crate::built::Feature;
use crate::slots::{Role, Sites, Slot, SlotModule, SlotTable};
use crate::{Error, Result};
use gesso_mil::{Arg, DType, TensorType, Value, Var};
use std::collections::BTreeMap;

/// Position of the channels in the activations around a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    /// `[B, C, 1, S]` or `[B, C, H, W]`; the layer is a convolution.
    Second,
    /// `[B, S, C]`; the layer is a `linear`.
    Last,
}

/// What a layer is for, which decides whether it has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// A projection of an attention.
    Attention,
    /// A feed-forward layer, or a projection around a transformer.
    FeedForward,
    /// Any other linear layer or convolution.
    Other,
}

impl Site {
    /// Whether layers of this kind have slots in a base with `sites`.
    fn is_among(self, sites: Sites) -> bool {
        match self {
            Self::Attention => true,
            Self::FeedForward => sites != Sites::Attention,
            Self::Other => sites == Sites::All,
        }
    }
}

/// The input of one or more layers, with its form for the slots once one was needed.
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
    /// Kernels that add up the taps of convolutions, by side.
    shifts: BTreeMap<usize, Var>,
}

/// One linear layer or convolution.
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
    /// Kernel; [`Kernel::POINT`] for a linear layer.
    pub(crate) kernel: Kernel,
    /// What it is for.
    pub(crate) site: Site,
    /// Whether it has a bias.
    pub(crate) bias: bool,
}

impl<'a> Layer<'a> {
    /// A biased convolution that is neither attention nor feed-forward.
    pub(crate) fn conv(path: &'a str, name: &'a str, outputs: usize, kernel: Kernel) -> Self {
        Self {
            path,
            name,
            outputs,
            channels: Channels::Second,
            kernel,
            site: Site::Other,
            bias: true,
        }
    }
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
            shifts: BTreeMap::new(),
        });
    }

    /// A layer that can carry an adapter: `W·x + b`, and `+ up·(down·x)` when slots are declared and its site has them.
    ///
    /// A slot adds only ops and immediate constants, so the weights and their order are those of the plain program.
    pub(crate) fn adaptable(&mut self, layer: Layer<'_>, input: &mut Input) -> Result<Var> {
        let Layer { path, name, .. } = layer;
        if !layer.site.is_among(self.sites) {
            return self.layer(layer, name, &input.x.clone());
        }
        let axis = match layer.channels {
            Channels::Second => 1,
            Channels::Last => 2,
        };
        self.adaptable.push(SlotModule {
            component: self.component.into(),
            module: path.into(),
            inputs: dim(&input.x, axis)?,
            outputs: layer.outputs,
            kernel: layer.kernel.size,
        });
        let x = input.x.clone();
        if self.slots.is_none() {
            return self.layer(layer, name, &x);
        }
        let own = self.layer(layer, &format!("{name}_base"), &x)?;
        self.with_slot(layer, input, &own)
    }

    /// `own + up·(down·x)`, `own` being what the layer itself returns; slots must be declared.
    pub(crate) fn with_slot(
        &mut self,
        layer: Layer<'_>,
        input: &mut Input,
        own: &Var,
    ) -> Result<Var> {
        let name = layer.name;
        let product = self.adapter_product(layer, input)?;
        let product = self.reshaped(&format!("{name}_adapter_like_base"), &product, own)?;
        self.binary("add", name, own, &product)
    }

    /// `W·x + b` under the name `name`.
    fn layer(&mut self, layer: Layer<'_>, name: &str, x: &Var) -> Result<Var> {
        let Layer { path, outputs, .. } = layer;
        match layer.channels {
            Channels::Second => self.conv(path, name, x, outputs, layer.kernel, layer.bias),
            Channels::Last => self.linear(path, name, x, outputs, layer.bias),
        }
    }

    /// `up·(down·x)`: `[B, O, S]` or `[B, S, O]`, S the positions of the layer's output.
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
        let down = self.slot_rows(path, Role::Down, &format!("{name}_down"))?;
        let up_name = format!("{name}_up");
        match layer.channels {
            Channels::Second => {
                let low = match layer.kernel {
                    Kernel::POINT => self.matmul(&low, &down, &rows, [false, false])?,
                    _ => self.low_by_taps(layer, &down, &rows, &input.x.shape()?)?,
                };
                let up = self.slot_rows(path, Role::Up, &up_name)?;
                self.matmul(&product, &up, &low, [true, false])
            }
            Channels::Last => {
                let low = self.matmul(&low, &rows, &down, [false, true])?;
                let up = self.slot_rows(path, Role::Up, &up_name)?;
                self.matmul(&product, &low, &up, [false, false])
            }
        }
    }

    /// `down` of a k×k convolution on `rows [B, I, H·W]` → `[B, R, H'·W']`.
    ///
    /// ```text
    /// z = matmul(down [1, R·k², I], rows)                 // every tap of every rank, at every position
    /// low = conv(z [B, R·k², H, W], shift [R, k², k, k], groups = R, strides and pad of the layer)
    /// ```
    ///
    /// `shift[r, t, i, j]` is 1 where t = i·k + j and 0 elsewhere: the convolution moves each tap to its place and adds them up.
    fn low_by_taps(
        &mut self,
        layer: Layer<'_>,
        down: &Var,
        rows: &Var,
        shape: &[usize],
    ) -> Result<Var> {
        let (name, kernel) = (layer.name, layer.kernel);
        let taps = dim(down, 0)?;
        let (rank, width) = (dim(down, 1)?, dim(down, 2)?);
        let all = [1, rank * taps, width];
        let down = self.reshape(&format!("{name}_down_taps"), down, &all)?;
        let z = self.matmul(&format!("{name}_taps"), &down, rows, [false, false])?;
        let [batch, _, height, columns] = shape else {
            return Err(self.no_row(layer.path));
        };
        let picture = [*batch, rank * taps, *height, *columns];
        let z = self.reshape(&format!("{name}_taps_picture"), &z, &picture)?;
        let shift = self.shift(kernel.size, rank)?;
        let groups = i32::try_from(rank).map_err(|_| self.no_row(layer.path))?;
        let args: [(&str, Arg); 7] = [
            ("x", (&z).into()),
            ("weight", (&shift).into()),
            ("strides", [kernel.stride; 2].into()),
            ("pad_type", "custom".into()),
            ("pad", kernel.pad.into()),
            ("dilations", [1, 1].into()),
            ("groups", groups.into()),
        ];
        let low = self.op("conv", &format!("{name}_low"), &args)?;
        let [b, r, positions] = flattened(&low)?;
        self.reshape(&format!("{name}_low_rows"), &low, &[b, r, positions])
    }

    /// The kernel `[R, k², k, k]` that adds up taps, an immediate constant that all convolutions share.
    fn shift(&mut self, side: usize, rank: usize) -> Result<Var> {
        let known = self.slots.as_ref().and_then(|s| s.shifts.get(&side));
        if let Some(shift) = known {
            return Ok(shift.clone());
        }
        let taps = side * side;
        let one = |i: usize| f32::from(u8::from(i / taps == i % taps));
        let identity: Vec<f32> = (0..taps * taps).map(one).collect();
        let value = Value::floats(
            self.dtype,
            &[rank, taps, side, side],
            &identity.repeat(rank),
        );
        let name = format!("adapter_shift_{side}x{side}");
        let shift = self.builder.constant(&name, value);
        if let Some(slots) = &mut self.slots {
            slots.shifts.insert(side, shift.clone());
        }
        Ok(shift)
    }

    /// `x` in the shape of `like`.
    fn reshaped(&mut self, name: &str, x: &Var, like: &Var) -> Result<Var> {
        let shape = like.shape()?;
        if x.shape()? == shape {
            return Ok(x.clone());
        }
        self.reshape(name, x, &shape)
    }

    /// The rows of one factor, `[1, R, W]`; of a convolution's `down` `[k², R, W]`.
    fn slot_rows(&mut self, path: &str, role: Role, name: &str) -> Result<Var> {
        let slots = self.slots.as_ref().ok_or_else(|| self.no_row(path))?;
        let slot: &Slot = slots
            .table
            .row(self.component, path, role)
            .ok_or_else(|| self.no_row(path))?;
        let input = slots.inputs.get(&slot.width);
        let input = input.ok_or_else(|| self.no_row(path))?.clone();
        let (row, width, rank) = (slot.row, slot.width, slots.table.rank());
        let end = row + slot.taps;
        self.slice(name, &input, &[row, 0, 0], &[end, rank, width])
    }

    fn no_row(&self, path: &str) -> Error {
        Error::Config {
            component: self.component.into(),
            field: "adapter slots".into(),
            expected: format!("a row for `{path}`"),
            found: "none".into(),
        }
    }
}

/// `[B, C, H·W]` of `[B, C, H, W]`.
fn flattened(x: &Var) -> Result<[usize; 3]> {
    Ok([dim(x, 0)?, dim(x, 1)?, dim(x, 2)? * dim(x, 3)?])
}

/// The optional inputs of a table, ascending by width.
pub(crate) fn slot_features(table: &SlotTable, dtype: DType) -> impl Iterator<Item = Feature> {
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
