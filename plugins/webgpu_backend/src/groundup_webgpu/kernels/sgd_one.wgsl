    if (number >= $first && number < $last) {
        for (var turn = 0; turn < $turns; turn += 1) {
            let i = ((number - $first) * $turns + turn) * 256 + i32(thread);
            if (i < $size) {
                let p = $param(param(${param_at}u) / $width + i);
                let g = $grad(param(${grad_at}u) / $width + i) * gradient_scale + p * $decay;
$step
            }
        }
    }
