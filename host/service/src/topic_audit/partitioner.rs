//! Maps keys to partitions in the same way as the Java and Python clients, and as Belfry's producer is configured.

/// Returns the key's hash: murmur2, made positive. The partition is the hash modulo the number of partitions.
pub(super) fn key_hash(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| (last << 8) | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::key_hash;

    #[test]
    fn keys_hash_as_with_javas_client() {
        // From the tests of Kafka's own client; the sign bit is cleared below.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(key_hash(key.as_bytes()), hash as u32 & 0x7fff_ffff, "{key}");
        }
    }
}
