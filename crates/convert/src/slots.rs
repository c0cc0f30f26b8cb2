//! Adapter slots: which row of which `adapter_W` input carries which factor of which module.
//!
//! A module with input width I and output width O has two rows: its `down [R, I]` in `adapter_I` and its transposed
//! `up [R, O]` in `adapter_O`. A k×k convolution has k² consecutive rows for its `down`, whose R·k² vectors of width I lie as
//! `[R, k², I]`: rank outermost, then the taps of the kernel row by row. The rows of one width are numbered from 0 in the byte
//! order of (component, module), `down` before `up`. The numbering depends on the modules alone, never on the graph, the rank or
//! the precision.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Which modules of a base have slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sites {
    /// The four projections of every attention.
    Attention,
    /// These, the feed-forward layers, and the projections around the UNet's transformers.
    #[default]
    AttentionFeedForward,
    /// Every linear layer and convolution.
    All,
}

impl Sites {
    /// All of them, by what they hold.
    pub const ALL: [Self; 3] = [Self::Attention, Self::AttentionFeedForward, Self::All];

    /// The word in files and options: `attention`, `attention+ff` or `all`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::AttentionFeedForward => "attention+ff",
            Self::All => "all",
        }
    }

    /// What `word` names.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sites| sites.word() == word)
    }
}

/// The slots that a program is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// Rank R of every row.
    pub rank: usize,
    /// Which modules.
    pub sites: Sites,
}

impl SlotOptions {
    /// Slots of rank `rank` in attention, feed-forward and projection layers.
    pub fn of_rank(rank: usize) -> Self {
        Self {
            rank,
            sites: Sites::default(),
        }
    }
}

fn one() -> usize {
    1
}

fn is_one(x: &usize) -> bool {
    *x == 1
}

/// A module that has a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotModule {
    /// Component, for instance `unet`.
    pub component: String,
    /// Module path in diffusers' words, without `.weight`.
    pub module: String,
    /// Input width I.
    pub inputs: usize,
    /// Output width O.
    pub outputs: usize,
    /// Side k of a k×k convolution; 1 for a linear layer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub kernel: usize,
}

impl SlotModule {
    /// Elements of its kernel, k²: rows of its `down`.
    pub fn taps(&self) -> usize {
        self.kernel.saturating_mul(self.kernel)
    }
}

/// Which factor a row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `down [R, I]`, of a convolution `[R, k², I]`.
    Down,
    /// `up` transposed to `[R, O]`.
    Up,
}

/// The row of one factor in one `adapter_W` input; of a convolution's `down` the first of k² rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot {
    /// Component, for instance `unet`.
    pub component: String,
    /// Module path in diffusers' words.
    pub module: String,
    /// Width W: I for `down`, O for `up`. The row lies in `adapter_W`.
    pub width: usize,
    /// Which factor.
    pub role: Role,
    /// Index along axis 0 of `adapter_W [n_W, R, W]`.
    pub row: usize,
    /// Rows that the factor takes: `row` and those that follow.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub taps: usize,
}

/// All rows of one program (or of one base, over its components).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotTable {
    rank: usize,
    modules: Vec<SlotModule>,
    rows: Vec<Slot>,
}

impl SlotTable {
    /// The table of these modules at rank `rank`. The order of `modules` does not matter; equal entries count once.
    pub fn new(rank: usize, mut modules: Vec<SlotModule>) -> Self {
        modules.sort();
        modules.dedup();
        let mut next: BTreeMap<usize, usize> = BTreeMap::new();
        let mut rows = Vec::with_capacity(2 * modules.len());
        for m in &modules {
            for (role, width, taps) in [(Role::Down, m.inputs, m.taps()), (Role::Up, m.outputs, 1)]
            {
                let row = next.entry(width).or_default();
                rows.push(Slot {
                    component: m.component.clone(),
                    module: m.module.clone(),
                    width,
                    role,
                    row: *row,
                    taps,
                });
                *row = row.saturating_add(taps);
            }
        }
        Self {
            rank,
            modules,
            rows,
        }
    }

    /// The rank R of every row.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Modules in the byte order of (component, module).
    pub fn modules(&self) -> &[SlotModule] {
        &self.modules
    }

    /// Rows in the order of the modules, `down` before `up`.
    pub fn rows(&self) -> &[Slot] {
        &self.rows
    }

    /// The row of one factor.
    pub fn row(&self, component: &str, module: &str, role: Role) -> Option<&Slot> {
        let at = self
            .modules
            .binary_search_by(|m| (&*m.component, &*m.module).cmp(&(component, module)))
            .ok()?;
        self.rows.get(2 * at + usize::from(role == Role::Up))
    }

    /// Number of rows n_W of each width W, ascending: the inputs `adapter_W [n_W, R, W]`.
    pub fn widths(&self) -> BTreeMap<usize, usize> {
        let mut widths = BTreeMap::new();
        for slot in &self.rows {
            let rows: &mut usize = widths.entry(slot.width).or_default();
            *rows = rows.saturating_add(slot.taps);
        }
        widths
    }

    /// Elements of all inputs `adapter_W`: what an app binds, or writes into states.
    pub fn elements(&self) -> u64 {
        self.widths()
            .into_iter()
            .map(|(width, rows)| {
                [rows, self.rank, width]
                    .into_iter()
                    .fold(1u64, |n, d| n.saturating_mul(d as u64))
            })
            .fold(0, u64::saturating_add)
    }

    /// Name of the input that carries the rows of width `width`.
    pub fn input_name(width: usize) -> String {
        format!("adapter_{width}")
    }

    /// Hash of the layout of this table alone; see [`layout_hash`].
    pub fn layout_hash(&self) -> [u8; 32] {
        layout_hash([self])
    }
}

/// SHA-256 over the modules of all `tables`, which says whether an adapter fits a base.
///
/// The hashed bytes are one line per module, sorted by (component, module) in byte order, in UTF-8 without a byte order mark:
/// `<component>:<module> <I> <O>\n`, with I and O in decimal and one space (0x20) between the three, for instance
/// `unet:down_blocks.0.attentions.0.proj_in 320 320`; of a k×k convolution with k > 1 the line ends in ` <k>x<k>\n`. Rank,
/// precision, bits, picture size and attention flavour take no part.
pub fn layout_hash<'a>(tables: impl IntoIterator<Item = &'a SlotTable>) -> [u8; 32] {
    let mut modules: Vec<&SlotModule> = tables.into_iter().flat_map(SlotTable::modules).collect();
    modules.sort();
    modules.dedup();
    let mut hash = Sha256::new();
    for m in modules {
        hash.update(format!(
            "{}:{} {} {}",
            m.component, m.module, m.inputs, m.outputs
        ));
        if m.kernel != 1 {
            hash.update(format!(" {k}x{k}", k = m.kernel));
        }
        hash.update("\n");
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(module: &str, inputs: usize, outputs: usize) -> SlotModule {
        SlotModule {
            component: "unet".into(),
            module: module.into(),
            inputs,
            outputs,
            kernel: 1,
        }
    }

    #[test]
    fn a_convolution_takes_a_row_per_tap_and_a_line_of_its_own() {
        let mut conv = module("b", 8, 16);
        conv.kernel = 3;
        let table = SlotTable::new(32, vec![conv, module("c", 8, 8), module("a", 8, 8)]);
        let rows: Vec<_> = table
            .rows()
            .iter()
            .map(|s| (&*s.module, s.role, s.width, s.row, s.taps))
            .collect();
        assert_eq!(
            rows,
            [
                ("a", Role::Down, 8, 0, 1),
                ("a", Role::Up, 8, 1, 1),
                ("b", Role::Down, 8, 2, 9),
                ("b", Role::Up, 16, 0, 1),
                ("c", Role::Down, 8, 11, 1),
                ("c", Role::Up, 8, 12, 1),
            ]
        );
        assert_eq!(table.widths(), BTreeMap::from([(8, 13), (16, 1)]));
        assert_eq!(table.elements(), 32 * (13 * 8 + 16));
        let wanted: [u8; 32] = Sha256::digest(b"unet:a 8 8\nunet:b 8 16 3x3\nunet:c 8 8\n").into();
        assert_eq!(table.layout_hash(), wanted);
    }

    #[test]
    fn files_from_before_kernels_read_and_write_the_same() {
        let text = r#"{"component":"unet","module":"a","inputs":8,"outputs":16}"#;
        let read: SlotModule = serde_json::from_str(text).unwrap();
        assert_eq!(read, module("a", 8, 16));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let text = r#"{"component":"unet","module":"a","width":8,"role":"down","row":3}"#;
        let read: Slot = serde_json::from_str(text).unwrap();
        assert_eq!(read.taps, 1);
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn rows_follow_the_module_names() {
        let table = SlotTable::new(32, vec![module("b", 8, 8), module("a", 8, 16)]);
        let rows: Vec<_> = table
            .rows()
            .iter()
            .map(|s| (&*s.module, s.role, s.width, s.row))
            .collect();
        assert_eq!(
            rows,
            [
                ("a", Role::Down, 8, 0),
                ("a", Role::Up, 16, 0),
                ("b", Role::Down, 8, 1),
                ("b", Role::Up, 8, 2)
            ]
        );
        assert_eq!(table.widths(), BTreeMap::from([(8, 3), (16, 1)]));
        for slot in table.rows() {
            assert_eq!(
                table.row(&slot.component, &slot.module, slot.role),
                Some(slot)
            );
        }
        assert_eq!(table.row("unet", "c", Role::Up), None);
        assert_eq!(table.row("vae", "a", Role::Up), None);
    }

    #[test]
    fn the_hash_is_that_of_the_documented_lines() {
        let one = SlotTable::new(32, vec![module("b", 8, 8), module("a", 8, 16)]);
        let wanted: [u8; 32] = Sha256::digest(b"unet:a 8 16\nunet:b 8 8\n").into();
        assert_eq!(one.layout_hash(), wanted);
        let other = SlotTable::new(64, one.modules().to_vec());
        assert_eq!(other.layout_hash(), wanted);
        let halves = [module("b", 8, 8), module("a", 8, 16)].map(|m| SlotTable::new(32, vec![m]));
        assert_eq!(layout_hash(&halves), wanted);
        assert_ne!(
            SlotTable::new(32, vec![module("a", 8, 16)]).layout_hash(),
            wanted
        );
    }
}
