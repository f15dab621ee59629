//! Numbers and texts as bytes.
//!
//! Owns both directions. Must not know what the values mean. Invariants: reading never goes beyond the input; what was
//! written reads as the same value.

/// The bytes are not what a writer produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Appends a number: seven bits a byte, the lowest first; the top bit is set where more bytes follow (LEB128).
pub fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

/// Appends an optional number: 0 for none, else the number plus one. [`u64::MAX`] becomes the number before it.
pub fn put_optional(into: &mut Vec<u8>, number: Option<u64>) {
    put_number(into, number.map_or(0, |number| number.saturating_add(1)));
}

/// Appends a text: its length, then its bytes.
pub fn put_text(into: &mut Vec<u8>, text: &str) {
    put_number(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

/// Reads values from the front of the bytes that remain.
#[derive(Debug, Clone, Copy)]
pub struct ByteReader<'a>(pub &'a [u8]);

impl<'a> ByteReader<'a> {
    /// Whether no byte remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte, which remains.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    ///
    /// When fewer remain.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// The next byte.
    ///
    /// # Errors
    ///
    /// When none remains.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// A number of eight bytes, little-endian.
    ///
    /// # Errors
    ///
    /// When fewer remain.
    pub fn fixed(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number as [`put_number`] writes it.
    ///
    /// # Errors
    ///
    /// When it is cut, or has more than 64 bits.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// A number that must fit into `T`.
    ///
    /// # Errors
    ///
    /// As [`ByteReader::number`], and when it does not fit.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed)
    }

    /// An optional number as [`put_optional`] writes it.
    ///
    /// # Errors
    ///
    /// As [`ByteReader::number`].
    pub fn optional(&mut self) -> Result<Option<u64>, Malformed> {
        self.number().map(|number| number.checked_sub(1))
    }

    /// A text of at most `longest` bytes, as [`put_text`] writes it.
    ///
    /// # Errors
    ///
    /// When it is cut, longer, or not UTF-8.
    pub fn text(&mut self, longest: usize) -> Result<&'a str, Malformed> {
        let length = self.small()?;
        if length > longest {
            return Err(Malformed);
        }
        str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(ByteReader(&bytes).number(), Ok(number));
            let cut = bytes.len() - 1;
            assert_eq!(ByteReader(&bytes[..cut]).number(), Err(Malformed));
        }
        let mut bytes = Vec::new();
        put_text(&mut bytes, "fe01.contoso.local");
        assert_eq!(ByteReader(&bytes).text(18), Ok("fe01.contoso.local"));
        assert_eq!(ByteReader(&bytes[..5]).text(18), Err(Malformed));
        assert_eq!(ByteReader(&bytes).text(17), Err(Malformed));
    }

    #[test]
    fn a_number_beyond_64_bits_is_malformed() {
        assert_eq!(ByteReader(&[0xff; 12]).number(), Err(Malformed));
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(ByteReader(&bytes).number(), Err(Malformed));
        assert_eq!(ByteReader(&[200, 2]).small::<u8>(), Err(Malformed));
    }
}
