//! Amounts in two bytes: six bits of exponent, ten of mantissa with a hidden one.
//!
//! Exact below 2,048, above it within 0.05 %, rounded to the nearest; every `u64` has a form.

/// Stands for "nobody counted".
pub(crate) const UNKNOWN: u16 = u16::MAX;

const MANTISSA_BITS: u32 = 10;
const HIDDEN_ONE: u64 = 1 << MANTISSA_BITS;

/// The nearest amount that has a form.
pub(crate) fn pack(amount: u64) -> u16 {
    let bits = u64::BITS - amount.leading_zeros();
    if bits <= MANTISSA_BITS {
        return u16::try_from(amount).unwrap_or(0);
    }
    let shift = bits - MANTISSA_BITS - 1;
    let half = (1_u64 << shift) >> 1;
    let rounded = amount.saturating_add(half) >> shift;
    // Rounding up may carry into the next exponent: 2 * HIDDEN_ONE is then 1 << 11.
    let (exponent, mantissa) = if rounded >= 2 * HIDDEN_ONE {
        (shift + 2, 0)
    } else {
        (shift + 1, rounded - HIDDEN_ONE)
    };
    let packed = (u64::from(exponent) << MANTISSA_BITS) | mantissa;
    u16::try_from(packed).map_or(UNKNOWN - 1, |packed| packed.min(UNKNOWN - 1))
}

/// What [`pack`] wrote; the form of no amount reads as the greatest.
pub(crate) fn unpack(packed: u16) -> u64 {
    let exponent = u32::from(packed >> MANTISSA_BITS);
    let mantissa = u64::from(packed) & (HIDDEN_ONE - 1);
    match exponent {
        0 => mantissa,
        _ => (HIDDEN_ONE + mantissa)
            .saturating_mul(1_u64.checked_shl(exponent - 1).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_amounts_are_exact() {
        for amount in 0..2_048 {
            assert_eq!(unpack(pack(amount)), amount);
        }
    }

    #[test]
    fn the_greatest_amount_is_not_unknown() {
        assert_ne!(pack(u64::MAX), UNKNOWN);
        assert!(unpack(pack(u64::MAX)) > u64::MAX / 1_000 * 999);
    }

    proptest! {
        #[test]
        fn amounts_keep_three_digits(amount: u64) {
            let back = unpack(pack(amount));
            prop_assert!(back.abs_diff(amount) <= amount / 2_000);
        }

        #[test]
        fn greater_amounts_have_no_smaller_form(a: u64, b: u64) {
            prop_assert!(pack(a.min(b)) <= pack(a.max(b)));
        }
    }
}
