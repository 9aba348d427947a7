    for (var w = 0; w < 4; w += 1) {
        let i = first + w;
        if (i < $size) {
$index
            let dropped = bits[w] < u32($threshold);
            save(param(0u) + i, select(load0(at0) * $scale, 0.0, dropped));
        }
    }
