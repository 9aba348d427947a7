// The maximum of a row and the sum of exp(x - maximum), in one pass (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018).

const NEVER = -3.4028234e38;

struct Exponentials {
    top: f32,
    sum: f32,
}

fn exponentials(at0: i32, lane: u32, thread: u32) -> Exponentials {
    var own = NEVER;
    var sum = 0.0;
    for (var c = i32(lane); c < $units; c += i32(LANES)) {
        let x = load0(at0 + c * $step0);
        let next = maximum_f32(own, largest_of(x));
        sum = sum * exp(own - next) + sum_of(exp(x - next));
        own = next;
    }
    let top = largest(own, thread);
    return Exponentials(top, total(sum * exp(own - top), thread));
}
