// What sorting compares: numbers as unsigned integers in the same order, NaN the last, then places.
// Falling order turns the keys around, so equal numbers keep their order either way.

fn key_of_f32(x: f32) -> u32 {
    let bits = bitcast<u32>(select(x, 0.0, x == 0.0));
    if (is_nan(x)) {
        return 0xffffffffu;
    }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn key_of_i32(x: i32) -> u32 {
    return bitcast<u32>(x) ^ 0x80000000u;
}
