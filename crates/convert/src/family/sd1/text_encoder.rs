//! The CLIP text encoder.

use super::check;
use crate::Result;
use crate::built::Built;
use crate::family::Precision;
use crate::family::adapted::{Channels, Input, Layer, Site};
use crate::family::features::built;
use crate::family::graph::{Graph, Kernel, dim, value_name};
use crate::slots::{SlotOptions, SlotTable};
use gesso_mil::{Arg, DType, Literal, TensorType, Value, Var};
use gesso_weights::{TextActivation, TextConfig};

/// Added to the scores of later tokens; their weights become exactly 0, and fp16 can hold it.
const MASKED: f32 = -1e4;

/// How a text encoder is built.
#[derive(Clone, Debug, PartialEq)]
pub struct TextOptions {
    /// Length of the text, 77.
    pub tokens: usize,
    /// Element type.
    pub precision: Precision,
    /// The adapter slots, if any.
    pub slots: Option<SlotOptions>,
}

/// The text encoder: `input_ids [1, S]` → `last_hidden_state [1, S, D]` (after the final norm), `pooled_outputs [1, D]`.
///
/// Types: `input_ids` fp32 (ids as numbers, cast to int32 inside), outputs fp32. `pooled_outputs` is the state at the end-of-text
/// token: at the first position of the largest id when `eos_config_id` is 2, else at the first position of that id. With
/// `slots` also one optional `adapter_W` per width (see [`crate::slots`]): q, k, v and out_proj have slots, and fc1 and fc2 unless
/// only attention is asked for.
///
/// Errors: `Config` for a configuration or length that does not fit together.
///
/// Source: transformers `CLIPTextModel`; feature names of Apple's `ml-stable-diffusion`.
pub fn text_encoder(config: &TextConfig, options: &TextOptions) -> Result<Built> {
    check::text(config, options)?;
    built(options.slots, |table| {
        let mut encoder = Encoder {
            config,
            tokens: options.tokens,
            g: Graph::with_slots("text_encoder", options.precision, options.slots),
        };
        encoder.run(table)?;
        Ok(encoder.g)
    })
}

/// The text encoder under construction.
struct Encoder<'a> {
    config: &'a TextConfig,
    tokens: usize,
    g: Graph,
}

impl Encoder<'_> {
    fn run(&mut self, table: Option<&SlotTable>) -> Result<()> {
        let shape = [1, self.tokens];
        let ids = self
            .g
            .input("input_ids", DType::Fp32, &shape, "Token ids as numbers");
        self.g.declare_slots(table);
        let ids = self.g.cast("token_ids", &ids, DType::Int32)?;
        let mut x = self.embeddings(&ids)?;
        let mask = self.causal_mask();
        for i in 0..self.config.layers {
            x = self.layer(&format!("text_model.encoder.layers.{i}"), &x, &mask)?;
        }
        let path = "text_model.final_layer_norm";
        let own = value_name(path);
        let name = self.g.output_name("last_hidden_state", &own).to_string();
        let x = self.layer_norm(path, &name, &x)?;
        let pooled = self.pooled(&ids, &x)?;
        self.g.output(
            "last_hidden_state",
            &x,
            "State of every token after the final norm",
        )?;
        self.g
            .output("pooled_outputs", &pooled, "State at the end of the text")
    }

    fn embeddings(&mut self, ids: &Var) -> Result<Var> {
        let (config, g) = (self.config, &mut self.g);
        let path = "text_model.embeddings";
        let shape = [config.vocab_size, config.hidden];
        let table = g.embedding_table(&format!("{path}.token_embedding.weight"), &shape);
        let args: [(&str, Arg); 4] = [
            ("x", (&table).into()),
            ("indices", ids.into()),
            ("axis", 0.into()),
            ("batch_dims", 0.into()),
        ];
        let tokens = g.op(
            "gather",
            &value_name(&format!("{path}.token_embedding")),
            &args,
        )?;
        let shape = [1, config.max_positions, config.hidden];
        let mut positions = g.weight(&format!("{path}.position_embedding.weight"), &shape);
        if config.max_positions != self.tokens {
            let end = [1, self.tokens, config.hidden];
            let name = value_name(&format!("{path}.position_embedding"));
            positions = g.slice(&name, &positions, &[0; 3], &end)?;
        }
        g.binary("add", &value_name(path), &tokens, &positions)
    }

    /// `[1, 1, S, S]`: 0 up to the diagonal, [`MASKED`] after it.
    fn causal_mask(&mut self) -> Var {
        let s = self.tokens;
        let later = |i: usize| if i % s > i / s { MASKED } else { 0.0 };
        let mask = (0..s * s).map(later).collect();
        self.g
            .generated("causal_mask", self.g.dtype, &[1, 1, s, s], mask)
    }

    fn layer(&mut self, path: &str, x: &Var, mask: &Var) -> Result<Var> {
        let name = value_name(path);
        let h = self.norm(path, "layer_norm1", x)?;
        let h = self.attention(&format!("{path}.self_attn"), &h, mask)?;
        let x = self
            .g
            .binary("add", &format!("{name}_after_attention"), x, &h)?;
        let h = self.norm(path, "layer_norm2", &x)?;
        let h = self.mlp(&format!("{path}.mlp"), &h)?;
        self.g.binary("add", &name, &x, &h)
    }

    fn norm(&mut self, path: &str, part: &str, x: &Var) -> Result<Var> {
        let path = format!("{path}.{part}");
        self.layer_norm(&path, &value_name(&path), x)
    }

    fn layer_norm(&mut self, path: &str, name: &str, x: &Var) -> Result<Var> {
        let width = [self.config.hidden];
        let gamma = self.g.weight(&format!("{path}.weight"), &width);
        let beta = self.g.weight(&format!("{path}.bias"), &width);
        let epsilon = self.g.scalar(self.config.eps);
        let args = [
            ("x", x.into()),
            ("axes", [-1].into()),
            ("gamma", (&gamma).into()),
            ("beta", (&beta).into()),
            ("epsilon", epsilon),
        ];
        self.g.op("layer_norm", name, &args)
    }

    fn linear(
        &mut self,
        (path, name): (&str, &str),
        site: Site,
        input: &mut Input,
        outputs: usize,
    ) -> Result<Var> {
        let layer = Layer {
            path,
            name,
            outputs,
            channels: Channels::Last,
            kernel: Kernel::POINT,
            site,
            bias: true,
        };
        self.g.adaptable(layer, input)
    }

    /// Causal attention over `x [1, S, D]`: heads as `[1, H, S, d]`, the scale applied to q and k before their product.
    fn attention(&mut self, path: &str, x: &Var, mask: &Var) -> Result<Var> {
        let name = value_name(path);
        let (hidden, heads) = (self.config.hidden, self.config.heads);
        let width = hidden / heads.max(1);
        let mut input = Input::from(x);
        let mut project = |part: &str| {
            let path = format!("{path}.{part}");
            let named = (&*path, &*value_name(&path));
            self.linear(named, Site::Attention, &mut input, hidden)
        };
        let (q, k, v) = (project("q_proj")?, project("k_proj")?, project("v_proj")?);
        let g = &mut self.g;
        let (q, k) = g.scaled_pair(&name, &q, &k, (width as f64).sqrt().recip())?;
        let mut split = |part: &str, x: &Var| -> Result<Var> {
            let shape = [1, dim(x, 1)?, heads, width];
            let x = g.reshape(&format!("{name}_{part}_split"), x, &shape)?;
            g.transpose(&format!("{name}_{part}_heads"), &x, &[0, 2, 1, 3])
        };
        let (q, k, v) = (split("q", &q)?, split("k", &k)?, split("v", &v)?);
        let scores = g.matmul(&format!("{name}_scores"), &q, &k, [false, true])?;
        let scores = g.binary("add", &format!("{name}_masked"), &scores, mask)?;
        let weights = g.softmax(&format!("{name}_weights"), &scores, -1)?;
        let o = g.matmul(&format!("{name}_heads"), &weights, &v, [false, false])?;
        let o = g.transpose(&format!("{name}_tokens"), &o, &[0, 2, 1, 3])?;
        let o = g.reshape(&format!("{name}_joined"), &o, &x.shape()?)?;
        self.linear(
            (&format!("{path}.out_proj"), &name),
            Site::Attention,
            &mut Input::from(&o),
            hidden,
        )
    }

    fn mlp(&mut self, path: &str, x: &Var) -> Result<Var> {
        let name = value_name(path);
        let first = format!("{path}.fc1");
        let (inner, hidden) = (self.config.intermediate, self.config.hidden);
        let site = Site::FeedForward;
        let named = (&*first, &*value_name(&first));
        let h = self.linear(named, site, &mut Input::from(x), inner)?;
        let active = format!("{name}_active");
        let h = match self.config.activation {
            TextActivation::Gelu => {
                let args = [("x", (&h).into()), ("mode", "EXACT".into())];
                self.g.op("gelu", &active, &args)?
            }
            TextActivation::QuickGelu => {
                let steep = self.g.scaled(&format!("{name}_steep"), &h, 1.702)?;
                let gate = self.g.unary("sigmoid", &format!("{name}_gate"), &steep)?;
                self.g.binary("mul", &active, &h, &gate)?
            }
        };
        let named = (&*format!("{path}.fc2"), &*name);
        self.linear(named, site, &mut Input::from(&h), hidden)
    }

    /// The row of `x [1, S, D]` at the end of the text → `[1, D]`.
    ///
    /// Everything about ids is int32. The largest of `key · S + (S − 1 − position)` is at the first position of the largest key,
    /// so no two positions tie.
    fn pooled(&mut self, ids: &Var, x: &Var) -> Result<Var> {
        let (tokens, eos) = (self.tokens, self.config.eos_config_id);
        let g = &mut self.g;
        let key = if eos == 2 {
            ids.clone()
        } else {
            let eos = Value::int(eos as i32);
            let equal = g.op("equal", "is_end", &[("x", ids.into()), ("y", eos.into())])?;
            g.cast("is_end_int32", &equal, DType::Int32)?
        };
        let times = Value::int(tokens as i32);
        let key = g.op(
            "mul",
            "end_key",
            &[("x", (&key).into()), ("y", times.into())],
        )?;
        let backwards = Literal::Ints((0..tokens as i32).rev().collect());
        let backwards = Value::tensor(TensorType::new(DType::Int32, &[1, tokens]), backwards);
        let key = g.op(
            "add",
            "end_key_first",
            &[("x", (&key).into()), ("y", backwards.into())],
        )?;
        let args = [
            ("x", (&key).into()),
            ("axis", 1.into()),
            ("keep_dims", false.into()),
        ];
        let position = g.op("reduce_argmax", "end_position", &args)?;
        let args: [(&str, Arg); 4] = [
            ("x", x.into()),
            ("indices", (&position).into()),
            ("axis", 1.into()),
            ("batch_dims", 0.into()),
        ];
        let row = g.op("gather", "pooled_row", &args)?;
        let name = g.output_name("pooled_outputs", "pooled");
        g.reshape(name, &row, &[1, self.config.hidden])
    }
}
