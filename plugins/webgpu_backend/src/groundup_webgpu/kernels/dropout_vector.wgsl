    let dropped = bits < vec4<u32>(u32($threshold));
    let x = load0(param(1u) / 4 + i32(block)) * $scale;
    save(param(0u) / 4 + i32(block), select(x, vec4<f32>(), dropped));
