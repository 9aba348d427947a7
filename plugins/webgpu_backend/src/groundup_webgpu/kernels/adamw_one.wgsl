    if (number >= $first && number < $last) {
        let correction1 = load0(rates + 3);
        let correction2 = load0(rates + 4);
        for (var turn = 0; turn < $turns; turn += 1) {
            let i = ((number - $first) * $turns + turn) * 256 + i32(thread);
            if (i < $size) {
                var p = $param(param(${param_at}u) / $width + i);
                var g = $grad(param(${grad_at}u) / $width + i) * gradient_scale;
                if ($decoupled) {
                    p *= 1.0 - lr * $decay;
                } else {
                    g += p * $decay;
                }
                let m = $state0(param(${state0_at}u) / $width + i) * $beta1 + g * $rest1;
                let v = $state1(param(${state1_at}u) / $width + i) * $beta2 + g * g * $rest2;
                let change = m * (lr / correction1) / (sqrt(v / correction2) + $eps);
                $save0(param(${save0_at}u) / $width + i, p - change);
                $save1(param(${save1_at}u) / $width + i, m);
                $save2(param(${save2_at}u) / $width + i, v);
            }
        }
    }
