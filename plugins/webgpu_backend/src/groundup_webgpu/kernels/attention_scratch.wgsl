// What attention_rows.wgsl left in scratch memory.

fn shift_of(row: i32) -> f32 {
    return bitcast<f32>(load4($scratch + 4 + row));
}

fn delta_of(row: i32) -> f32 {
    return bitcast<f32>(load4($scratch + 4 + $rows + row));
}
