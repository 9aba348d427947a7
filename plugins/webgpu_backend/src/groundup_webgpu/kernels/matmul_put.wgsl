fn put(at: i32, row: i32, column: i32, value: vec4<f32>) {
    if (row >= $rows) {
        return;
    }
    let goal = at + row * $columns + column;
    // repeat i 4
    if (column + {i} < $columns) {
        save(goal + {i}, value[{i}]);
    }
    // end
}

