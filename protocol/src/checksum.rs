//! CRC32C of what is made up of several pieces.

/// How many bytes are put together first.
const TOGETHER_BYTES_MAX: usize = 128;

/// The CRC32C of these pieces, one behind the other. If they are short they are put together first: each call costs as much as
/// some fifty bytes do.
pub fn crc32c_of<const N: usize>(pieces: [&[u8]; N]) -> u32 {
    let mut together = [0; TOGETHER_BYTES_MAX];
    let mut end = 0;
    for piece in pieces {
        let Some(place) = together.get_mut(end..end + piece.len()) else {
            return pieces.iter().fold(0, |before, piece| crc32c::crc32c_append(before, piece));
        };
        place.copy_from_slice(piece);
        end += piece.len();
    }
    crc32c::crc32c(&together[..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_count_as_what_they_are_together(
            one in proptest::collection::vec(any::<u8>(), 0..100), other in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            // More than is put together now and then.
            let together = crc32c::crc32c(&[&one[..], &other].concat());
            prop_assert_eq!(crc32c_of([&one, &other]), together);
        }
    }
}
