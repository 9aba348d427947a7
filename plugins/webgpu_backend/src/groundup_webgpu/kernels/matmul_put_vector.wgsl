fn put(at: i32, row: i32, column: i32, value: vec4<f32>) {
    if (row < $rows && column < $columns) {
        save((at + row * $columns + column) >> 2u, value);
    }
}

