//! Words on pictures, in an 8×8 bitmap font.

use crate::picture::Picture;
use font8x8::UnicodeFonts;

/// Width and height of one letter in pixels.
pub(crate) const LETTER: usize = 8;

impl Picture {
    /// Writes one line of text with its upper left corner at (x, y); a letter the font lacks leaves a gap.
    pub(crate) fn write(&mut self, text: &str, x: usize, y: usize, colour: [u8; 3]) {
        for (i, letter) in text.chars().enumerate() {
            let rows = font8x8::BASIC_FONTS
                .get(letter)
                .or_else(|| font8x8::LATIN_FONTS.get(letter))
                .unwrap_or([0; 8]);
            for (dy, row) in rows.iter().enumerate() {
                for dx in (0..LETTER).filter(|dx| row >> dx & 1 == 1) {
                    self.dot(x + i * LETTER + dx, y + dy, colour);
                }
            }
        }
    }

    /// Writes `text` broken at spaces into lines of at most `columns` letters, at most `lines` of them.
    pub(crate) fn write_wrapped(
        &mut self,
        text: &str,
        at: (usize, usize),
        columns: usize,
        lines: usize,
        colour: [u8; 3],
    ) {
        for (i, line) in wrapped(text, columns).iter().take(lines).enumerate() {
            self.write(line, at.0, at.1 + i * (LETTER + 2), colour);
        }
    }

    fn dot(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.rgb[at..at + 3].copy_from_slice(&colour);
        }
    }
}

fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_and_leave_dots() {
        assert_eq!(
            wrapped("a large red star on cream", 11),
            ["a large red", "star on", "cream"]
        );
        let mut picture = Picture::filled(16, 8, [255; 3]);
        picture.write("I", 0, 0, [0; 3]);
        let dark = picture.rgb.chunks(3).filter(|p| p[0] == 0).count();
        assert!(dark > 8, "{dark} dots");
    }
}
