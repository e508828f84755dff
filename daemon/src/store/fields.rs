//! How a row is put together: numbers in as few bytes as they need, ids as they are, one after the other.
//!
//! Stored bytes are spelled out here rather than left to a serialization library: a row that was written once is
//! read by every later version.

/// No usual stored form without text is longer: it takes memory once.
const STORED_BYTES_USUAL: usize = 32;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// A value with a stored form of its own, apart from the form in which it travels.
///
/// What `store` writes, `load` of this and every later version reads. Golden-bytes tests pin each one. A stored form
/// says itself where it ends: none is the beginning of another one of its type, so none can be cut short unnoticed.
pub trait Stored: Sized {
    /// Appends the stored form.
    fn store(&self, out: &mut Vec<u8>);

    /// Reads it back, and leaves what follows it.
    ///
    /// # Errors
    /// The bytes are no stored form of this type.
    fn load(fields: &mut Fields<'_>) -> Result<Self, Malformed>;

    /// The stored form alone.
    fn stored(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(STORED_BYTES_USUAL);
        self.store(&mut out);
        out
    }

    /// Reads a stored form that stands alone.
    ///
    /// # Errors
    /// The bytes are no stored form of this type, or more than one.
    fn load_all(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::of(bytes);
        let value = Self::load(&mut fields)?;
        fields.end()?;
        Ok(value)
    }
}

/// Nothing to keep.
impl Stored for () {
    fn store(&self, _: &mut Vec<u8>) {}

    fn load(_: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

/// How many bytes the largest number takes.
pub const NUMBER_BYTES_MAX: usize = 10;

/// Appends a number, seven bits to a byte, the lowest first; small numbers take one byte.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a text: its length in bytes, then its UTF-8.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// Reads fields from the front of a row.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the front of `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed("it is cut short"))?;
        self.rest = rest;
        Ok(byte)
    }

    /// A number as [`put_number`] writes it.
    ///
    /// # Errors
    /// It is cut short, larger than 64 bits, or longer than it needs to be.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(Malformed("a number is too large"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = bits != 0 || shift == 0;
                return if shortest { Ok(number) } else { Err(Malformed("a number is padded")) };
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// `N` bytes as they are.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (&array, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("it is cut short"))?;
        self.rest = rest;
        Ok(array)
    }

    /// A number in eight bytes, the highest first, as keys hold it: their order is the numbers' order.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn key_number(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text as [`put_text`] writes it.
    ///
    /// # Errors
    /// It is cut short, or not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed("a text is too long"))?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Malformed("it is cut short"))?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("it goes on after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_pinned() {
        for (number, golden) in [(0, &[0u8][..]), (127, &[127]), (128, &[128, 1]), (300, &[172, 2])] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(out, golden);
        }
    }

    #[test]
    fn what_no_number_looks_like_is_refused() {
        for bytes in
            [&[][..], &[128], &[128, 0], &[255; 10], &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]]
        {
            assert!(Fields::of(bytes).number().is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_is_read_back(number: u64, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, number);
            out.extend(&tail);
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.number(), Ok(number));
            prop_assert_eq!(fields.rest(), tail);
        }
    }
}
