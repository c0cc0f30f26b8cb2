//! Pictures: RGB with 8 bits per channel, PNG with text chunks, and grids of labelled pictures.

use anyhow::Context;

/// An RGB picture, rows from the top, 3 bytes per pixel.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub(crate) fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self {
            width,
            height,
            rgb: colour.repeat(width * height),
        }
    }

    /// Copies `other` to (x, y); what does not fit is cut off.
    pub(crate) fn paste(&mut self, other: &Picture, x: usize, y: usize) {
        let columns = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let from = row * other.width * 3;
            let to = ((y + row) * self.width + x) * 3;
            self.rgb[to..to + columns * 3].copy_from_slice(&other.rgb[from..from + columns * 3]);
        }
    }

    /// The picture as PNG with one text chunk per pair (keyword of 1–79 Latin-1 characters, text in UTF-8).
    pub(crate) fn png(&self, texts: &[(&str, String)]) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let width = u32::try_from(self.width).context("picture too wide for PNG")?;
        let height = u32::try_from(self.height).context("picture too high for PNG")?;
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        for (keyword, text) in texts {
            encoder.add_itxt_chunk((*keyword).to_string(), text.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb)?;
        writer.finish()?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn png_keeps_pixels_and_texts() {
        let mut picture = Picture::filled(5, 4, [1, 2, 3]);
        picture.paste(&Picture::filled(9, 9, [200, 100, 0]), 3, 2);
        let bytes = picture.png(&[("parameters", "größe".into())]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, picture.rgb);
        assert_eq!(&pixels[pixels.len() - 3..], &[200, 100, 0]);
        let text = &reader.info().utf8_text[0];
        assert_eq!(
            (text.keyword.as_str(), text.get_text().unwrap().as_str()),
            ("parameters", "größe")
        );
    }
}
