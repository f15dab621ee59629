//! Numbers and texts as bytes.
//!
//! Owns the two ways, there and back. Knows nothing of what they mean. Invariant: reading never goes beyond what there
//! is, and what is written reads as what it was.

/// What was read is not what could have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MalformedBytes;

/// Seven bits a byte, the lowest first; the top bit says that more follow (LEB128).
pub(super) fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

/// Its length, then its bytes.
pub(super) fn put_text(into: &mut Vec<u8>, text: &str) {
    put_number(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

/// What is left to be read.
pub(super) struct BytesReader<'a>(pub(super) &'a [u8]);

impl<'a> BytesReader<'a> {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedBytes> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MalformedBytes)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedBytes> {
        self.take(N)?.try_into().map_err(|_| MalformedBytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedBytes> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn fixed(&mut self) -> Result<u64, MalformedBytes> {
        self.array().map(u64::from_le_bytes)
    }

    /// See [`put_number`].
    pub(super) fn number(&mut self) -> Result<u64, MalformedBytes> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(MalformedBytes);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(MalformedBytes)
    }

    /// A number that must fit.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, MalformedBytes> {
        T::try_from(self.number()?).map_err(|_| MalformedBytes)
    }

    /// See [`put_text`].
    pub(super) fn text(&mut self) -> Result<&'a str, MalformedBytes> {
        let length = self.small()?;
        str::from_utf8(self.take(length)?).map_err(|_| MalformedBytes)
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
            assert_eq!(BytesReader(&bytes).number(), Ok(number));
            let cut = bytes.len() - 1;
            assert_eq!(BytesReader(&bytes[..cut]).number(), Err(MalformedBytes));
        }
        let mut bytes = Vec::new();
        put_text(&mut bytes, "fe01.contoso.local");
        assert_eq!(BytesReader(&bytes).text(), Ok("fe01.contoso.local"));
        assert_eq!(BytesReader(&bytes[..5]).text(), Err(MalformedBytes));
    }

    #[test]
    fn a_number_beyond_64_bits_is_malformed() {
        assert_eq!(BytesReader(&[0xff; 12]).number(), Err(MalformedBytes));
        let mut bytes = [0xff; 10];
        bytes[9] = 2;
        assert_eq!(BytesReader(&bytes).number(), Err(MalformedBytes));
        assert_eq!(BytesReader(&[200, 2]).small::<u8>(), Err(MalformedBytes));
    }
}
