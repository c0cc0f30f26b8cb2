//! The figures of the modules along the depth, as a drawing (SVG).

use super::layers::{Layer, Layers};
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 30.0;
const STEP_DB: f64 = 20.0;

/// One panel per model: SNR in dB over the number of the module; where it drops, the module is named. What lost nothing lies
/// on the upper edge, what is broken on the lower one.
pub(super) fn svg(models: &[(&str, &Layers)]) -> String {
    let height = HEIGHT * models.len().max(1) as f64;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, (name, layers)) in models.iter().enumerate() {
        let _ = writeln!(
            text,
            "<g transform=\"translate(0 {})\">",
            HEIGHT * number as f64
        );
        panel(&mut text, name, layers);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, name: &str, layers: &Layers) {
    let finite = || {
        layers
            .layers
            .iter()
            .map(|l| l.snr_db)
            .filter(|db| db.is_finite())
    };
    let step = |db: f64| (db / STEP_DB).floor() * STEP_DB;
    let low = step(finite().fold(0.0, f64::min));
    let high = step(finite().fold(STEP_DB, f64::max)) + STEP_DB;
    let count = layers.layers.len();
    let x = |i: usize| LEFT + (WIDTH - LEFT - RIGHT) * (i as f64 + 0.5) / count.max(1) as f64;
    let y = |db: f64| {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (db.clamp(low, high) - low) / (high - low))
    };
    let title = escaped(&format!(
        "{name}: SNR in dB of {count} modules, in program order"
    ));
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>"
    );
    let mut line = low;
    while line <= high {
        let at = y(line);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{line}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
        line += STEP_DB;
    }
    let points = layers.layers.iter().enumerate();
    let points = points.map(|(i, l)| format!("{:.1},{:.1}", x(i), y(l.snr_db)));
    let points: Vec<String> = points.collect();
    let _ = writeln!(
        text,
        "<polyline fill=\"none\" stroke=\"#1f77b4\" points=\"{}\"/>",
        points.join(" ")
    );
    for (i, layer) in layers.layers.iter().enumerate() {
        let drops = layers.drops.contains(&layer.module);
        point(text, layer, (x(i), y(layer.snr_db)), drops);
    }
}

/// A dot with the module and its figure on hovering; a module that drops is named beside it.
fn point(text: &mut String, layer: &Layer, (x, y): (f64, f64), drops: bool) {
    let (colour, radius) = if drops {
        ("#d62728", 4)
    } else {
        ("#1f77b4", 2)
    };
    let module = escaped(&layer.module);
    let _ = writeln!(
        text,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{module}: {:.1} dB</title></circle>",
        layer.snr_db
    );
    if drops {
        let (anchor, at) = if x > WIDTH / 2.0 {
            ("end", x - 7.0)
        } else {
            ("start", x + 7.0)
        };
        let _ = writeln!(
            text,
            "<text x=\"{at:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{module}</text>",
            y + 4.0
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_named_and_every_module_is_a_dot() {
        let layer = |module: &str, snr_db| Layer {
            module: module.into(),
            value: module.into(),
            op: "conv".into(),
            psnr_db: snr_db,
            snr_db,
        };
        let layers = Layers {
            layers: vec![
                layer("a<b", f64::INFINITY),
                layer("c", 62.0),
                layer("d", f64::NEG_INFINITY),
            ],
            drops: vec!["d".into()],
            ..Layers::default()
        };
        let text = svg(&[("Unet", &layers), ("VAEDecoder", &Layers::default())]);
        assert_eq!(text.matches("<circle").count(), 3);
        assert_eq!(text.matches(">d</text>").count(), 1);
        assert!(text.contains("a&lt;b: inf dB") && !text.contains("NaN"));
        // 0 to 80 dB: 62 lies at 1 − 62/80 of the height between the edges; the others on the edges.
        assert!(
            text.contains("cy=\"40.0\"")
                && text.contains("cy=\"290.0\"")
                && text.contains("cy=\"96.2\"")
        );
    }
}
