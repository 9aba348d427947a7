// `rows` lines of operand $n from line `first` on, to workgroup memory; zeros behind the last.
fn fill$n(at: i32, first: i32, length: i32, rows: i32, factor: f32, thread: i32) {
    for (var n = thread; n < rows * $quads; n += THREADS) {
        let row = n / $quads;
        let inside = first + row < length;
        let line = at + select(0, first + row, inside) * $line;
        let found = quad$n(line, n % $quads);
        $target[n % $quads] = select(vec4<f32>(), found * factor, inside);
    }
}

