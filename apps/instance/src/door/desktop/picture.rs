//! Pictures of the desktop as PNG (RFC 2083).

use super::client::Picture;

impl Picture {
    /// Returns it no wider than `width`, in the same proportions: each pixel is the mean of those it stands for.
    pub(super) fn at_most(self, width: usize) -> Self {
        if width >= self.width {
            return self;
        }
        let height = (self.height * width).div_ceil(self.width);
        let mut pixels = Vec::with_capacity(3 * width * height);
        for row in 0..height {
            let rows = span(row, height, self.height);
            for column in 0..width {
                let columns = span(column, width, self.width);
                let mut sum = [0; 3];
                for y in rows.clone() {
                    let line = &self.pixels[3 * (y * self.width + columns.start)..][..3 * columns.len()];
                    for pixel in line.chunks_exact(3) {
                        sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                    }
                }
                let count = u32::try_from(rows.len() * columns.len()).unwrap_or(u32::MAX);
                // A mean of bytes is one.
                pixels.extend(sum.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX)));
            }
        }
        Self { width, height, pixels }
    }

    /// Returns the file.
    ///
    /// # Errors
    /// Where its sides do not fit its pixels.
    pub(super) fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let side = |side| u32::try_from(side).unwrap_or(0);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, side(self.width), side(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header()?.write_image_data(&self.pixels)?;
        Ok(file)
    }
}

/// Returns which of `all` pixels the one at `index` of fewer stands for; never none.
fn span(index: usize, fewer: usize, all: usize) -> std::ops::Range<usize> {
    let start = index * all / fewer;
    start..((index + 1) * all / fewer).max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_in_proportion_and_can_be_read_again() {
        let pixels = (0..4 * 2).flat_map(|at| [at * 10, 255, 0]).collect();
        let picture = Picture { width: 4, height: 2, pixels };
        assert_eq!(picture.clone().at_most(4), picture);
        assert_eq!(picture.clone().at_most(9), picture);
        let small = picture.at_most(2);
        // (0 + 10 + 40 + 50) / 4 and (20 + 30 + 60 + 70) / 4.
        assert_eq!(small, Picture { width: 2, height: 1, pixels: vec![25, 255, 0, 45, 255, 0] });
        let file = small.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, pixels), (2, 1, small.pixels));
    }
}
