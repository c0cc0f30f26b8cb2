//! Module names by shapes and order, for programs whose weights do not tell them.
//!
//! The layers on every position, in program order, must spell the layers of a family:
//! ```text
//! transformer   proj_in [c,c]  block+  proj_out [c,c]
//! block         q k v out [c,c]   q [c,c]  k v [x,c]  out [c,c]   ff.net.0.proj [c,2n]  ff.net.2 [n,c]
//! text layer    q k v out [c,c]   fc1 [c,n]  fc2 [n,c]
//! ```
//! The block that a transformer is in follows from the number of downsamplers and upsamplers before it.

use super::layers::{Layer, Step};
use super::names::{BLOCK, TEXT};
use super::{Module, Named};
use gesso_weights::Component;

/// A transformer and the layers in it.
struct Transformer<'a> {
    proj_in: &'a Layer,
    blocks: Vec<[&'a Layer; 10]>,
    proj_out: &'a Layer,
    /// Down- and upsamplers before it.
    downs: usize,
    ups: usize,
}

/// Names the layers, or says why they are not those of a UNet (which has convolutions) or text encoder.
pub(super) fn named(steps: &[Step], convolutions: bool) -> Result<Named, String> {
    if convolutions {
        unet(steps)
    } else {
        text(steps)
    }
}

fn text(steps: &[Step]) -> Result<Named, String> {
    let layers: Vec<&Layer> = steps
        .iter()
        .filter_map(|s| match s {
            Step::Layer(layer) => Some(layer),
            _ => None,
        })
        .collect();
    let mut modules = Vec::new();
    let (groups, rest) = layers.as_chunks::<6>();
    for (n, group) in groups.iter().enumerate() {
        let [q, k, v, out, fc1, fc2] = group;
        let c = q.inputs;
        let square = [q, k, v, out].iter().all(|l| is(l, c, c));
        if !square || !is(fc1, c, fc1.outputs) || !is(fc2, fc1.outputs, c) {
            return Err(format!(
                "layers {} to {} are not those of a text encoder's layer",
                6 * n + 1,
                6 * n + 6
            ));
        }
        let path = format!("text_model.encoder.layers.{n}");
        modules.extend(
            TEXT.iter()
                .zip(group)
                .map(|(end, layer)| Module::new(format!("{path}.{end}"), layer)),
        );
    }
    match (groups.is_empty(), rest.len()) {
        (true, _) => Err("it has no layers of a UNet or text encoder".into()),
        (false, 0) => Ok((Component::TextEncoder, modules)),
        (false, n) => Err(format!(
            "{n} linear layers are left over behind {} whole layers of a text encoder",
            groups.len()
        )),
    }
}

fn unet(steps: &[Step]) -> Result<Named, String> {
    let (transformers, [downs, ups]) = transformers(steps)?;
    if transformers.is_empty() {
        return Err("it has no attention of a UNet or text encoder".into());
    }
    if downs != ups {
        return Err(format!(
            "it has {downs} downsamplers and {ups} upsamplers, expected as many of both"
        ));
    }
    let mut modules = Vec::new();
    for (stem, t) in stems(&transformers, downs)?.into_iter().zip(&transformers) {
        modules.push(Module::new(format!("{stem}.proj_in"), t.proj_in));
        for (n, block) in t.blocks.iter().enumerate() {
            let block = BLOCK.iter().zip(block);
            modules.extend(block.map(|(end, layer)| {
                Module::new(format!("{stem}.transformer_blocks.{n}.{end}"), layer)
            }));
        }
        modules.push(Module::new(format!("{stem}.proj_out"), t.proj_out));
    }
    Ok((Component::Unet, modules))
}

/// Path of every transformer.
///
/// Errors: a number of transformers per block that no UNet has: `L` in every down block with attention, one in the middle,
/// `L + 1` in the up block of the same size.
fn stems(transformers: &[Transformer<'_>], depth: usize) -> Result<Vec<String>, String> {
    let count = |downs: usize, ups: usize| {
        let here = |t: &&Transformer<'_>| t.downs == downs && t.ups == ups;
        transformers.iter().filter(here).count()
    };
    let bottom = count(depth, 0);
    let low = match bottom {
        1 => 0,
        n if n >= 4 && n % 2 == 0 => (n - 2) / 2,
        n => return Err(format!("its lowest level has {n} transformers")),
    };
    let mut stems: Vec<String> = Vec::new();
    let mut put = |side: &str, block: usize, n: usize| {
        stems.extend((0..n).map(|a| format!("{side}_blocks.{block}.attentions.{a}")));
    };
    for level in 0..depth {
        put("down", level, count(level, 0));
    }
    put("down", depth, low);
    let above = stems.len();
    stems.push("mid_block.attentions.0".into());
    let mut put = |block: usize, n: usize| {
        stems.extend((0..n).map(|a| format!("up_blocks.{block}.attentions.{a}")));
    };
    put(0, if low == 0 { 0 } else { low + 1 });
    for level in 1..=depth {
        put(level, count(depth, level));
    }
    for level in 0..depth {
        let (down, up) = (count(level, 0), count(depth, depth - level));
        if up != if down == 0 { 0 } else { down + 1 } {
            return Err(format!(
                "`down_blocks.{level}` has {down} transformers and the up block of its size {up}"
            ));
        }
    }
    if stems.len() != transformers.len() || above >= transformers.len() {
        return Err(format!(
            "{} of its {} transformers lie between the levels",
            transformers.len().abs_diff(stems.len()),
            transformers.len()
        ));
    }
    Ok(stems)
}

/// The transformers in order, and how many downsamplers and upsamplers there are.
fn transformers(steps: &[Step]) -> Result<(Vec<Transformer<'_>>, [usize; 2]), String> {
    let mut layers: Vec<(&Layer, usize, usize)> = Vec::new();
    let (mut downs, mut ups) = (0, 0);
    for step in steps {
        match step {
            Step::Down => downs += 1,
            Step::Up => ups += 1,
            // Products on a single position belong to the embedding of the time.
            Step::Layer(layer) if layer.positions > 1 => layers.push((layer, downs, ups)),
            Step::Layer(_) | Step::Conv(_) | Step::Other(..) => {}
        }
    }
    let mut found = Vec::new();
    let mut rest = layers.as_slice();
    while let [(first, downs, ups), tail @ ..] = rest {
        let plain: Vec<&Layer> = rest.iter().map(|(layer, ..)| *layer).collect();
        match transformer(&plain) {
            Some((blocks, proj_out)) => {
                let used = 10 * blocks.len() + 2;
                found.push(Transformer {
                    proj_in: first,
                    blocks,
                    proj_out,
                    downs: *downs,
                    ups: *ups,
                });
                rest = rest.get(used..).unwrap_or_default();
            }
            // The shortcut of a resnet block, which changes the width.
            None if first.inputs != first.outputs => rest = tail,
            None => {
                return Err(format!(
                    "the layers from `{}` on do not follow each other as in a transformer of Stable Diffusion",
                    first.weight
                ));
            }
        }
    }
    Ok((found, [downs, ups]))
}

/// The blocks and the last layer of the transformer that `layers` begin with.
fn transformer<'a>(layers: &[&'a Layer]) -> Option<(Vec<[&'a Layer; 10]>, &'a Layer)> {
    let (proj_in, mut rest) = layers.split_first()?;
    let c = proj_in.inputs;
    let mut blocks = Vec::new();
    while let Some((block, tail)) = rest.split_first_chunk::<10>() {
        if !is_block(block, proj_in) {
            break;
        }
        blocks.push(*block);
        rest = tail;
    }
    let proj_out = rest.first()?;
    let whole = is(proj_in, c, c)
        && is(proj_out, c, c)
        && proj_out.positions == proj_in.positions
        && !blocks.is_empty();
    whole.then_some((blocks, *proj_out))
}

fn is_block(block: &[&Layer; 10], proj_in: &Layer) -> bool {
    let c = proj_in.inputs;
    let [q, k, v, out, q2, k2, v2, out2, up, down] = block;
    let here = |l: &Layer| l.positions == proj_in.positions;
    [q, k, v, out, q2, out2]
        .iter()
        .all(|l| is(l, c, c) && here(l))
        && [k2, v2].iter().all(|l| is(l, k2.inputs, c))
        && is(up, c, 2 * down.inputs)
        && is(down, down.inputs, c)
        && here(up)
        && here(down)
}

fn is(layer: &Layer, inputs: usize, outputs: usize) -> bool {
    layer.inputs == inputs && layer.outputs == outputs
}
