    if (number >= $first && number < $last) {
        let begin = (number - $first) * $turns * 256 + i32(thread);
        for (var i = begin; i < min($size, begin + $turns * 256); i += 256) {
            sum += $squared($tensor(param(${tensor_at}u) / $width + i));
        }
    }
