// Philox4x32-10 (Salmon et al., 2011): counter (block, 0, draw), key = seed.

fn high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let cross = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (cross >> 16u);
}

fn philox(block: u32, seed: vec2<u32>, draw: vec2<u32>) -> vec4<u32> {
    var k = seed;
    var c = vec4<u32>(block, 0u, draw);
    for (var r = 0; r < 10; r += 1) {
        let h0 = high(0xD2511F53u, c.x);
        let l0 = 0xD2511F53u * c.x;
        let h1 = high(0xCD9E8D57u, c.z);
        let l1 = 0xCD9E8D57u * c.z;
        c = vec4<u32>(h1 ^ c.y ^ k.x, l1, h0 ^ c.w ^ k.y, l0);
        k = k + vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}
