"""Another meaning: wrong axis, wrong sign, ties, NaN, limits, parameters that are not read."""

from __future__ import annotations

import numpy as np

from groundup_conformance.selftest.planting import Call, changed, compute, kernel


@kernel("softmax", "softmax[float32,first-axis,*] softmax[float32,middle-axis,*]")
def axis_ignored(call: Call) -> None:
    """Softmax over the last axis, whatever the axis is."""
    call.fill(*call.right(axis=-1))


@kernel("mean", "mean[float32,first,*] mean[float32,middle,*]")
def mean_of_the_wrong_count(call: Call) -> None:
    """The mean divides by the length of the last axis, whatever is reduced."""
    op = call.op
    if not call.x.ndim or not call.x.size or op.axes is None:
        call.fill(*call.right())
        return
    count = call.x.size // max(call.out.size, 1)
    call.fill(call.right()[0] * np.asarray(count / call.x.shape[-1], call.out.dtype))


@kernel("argmax", "argmax[*ties*]")
def last_of_equals(call: Call) -> None:
    """argmax gives the last of several largest elements."""
    x, op = call.x, call.op
    axis = op.axis
    flipped = np.flip(x) if axis is None else np.flip(x, axis)
    [found] = call.right(flipped)
    call.fill((x.size if axis is None else x.shape[axis]) - 1 - found)


@kernel("sort", "sort[*ties-falling*]")
def falling_order_is_rising_reversed(call: Call) -> None:
    """A falling order is the rising one read backwards: equal elements change places."""
    if not call.op.descending:
        call.fill(*call.right())
        return
    values, indices = call.right(descending=False)
    call.fill(np.flip(values, call.op.axis), np.flip(indices, call.op.axis))


@kernel("maximum", "maximum[float32,special,*]")
def maximum_drops_nan(call: Call) -> None:
    """The maximum of NaN and a number is the number (fmax)."""
    call.fill(np.fmax(*call.inputs))


@kernel("relu", "relu[float32,special,*]")
def relu_drops_nan(call: Call) -> None:
    """relu of NaN is 0 (x > 0 ? x : 0)."""
    call.fill(np.where(call.x > 0, call.x, call.x.dtype.type(0)))


@kernel("max", "max[float32,special,*] max[float32,nan-ties,*]")
def reduction_drops_nan(call: Call) -> None:
    """A maximum over an axis passes over NaN."""
    x = call.x
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(-np.inf), x)
    call.fill(*call.right(x))


@kernel("where", "where[float32,matrix-nonfinite*] where[float32,*special*]")
def where_by_arithmetic(call: Call) -> None:
    """c x + (1 - c) y: NaN comes through from the side that was not chosen."""
    condition, x, y = call.inputs
    if x.dtype != np.float32:
        call.fill(*call.right())
    else:
        call.fill(condition * x + (1 - condition.astype(np.float32)) * y)


@kernel("sum", "sum[float32,empty,*]")
def empty_sum_is_not_written(call: Call) -> None:
    """The sum of nothing is whatever the memory held."""
    if call.x.size:
        call.fill(*call.right())


@kernel("logsumexp", "logsumexp[*special*] logsumexp[*nonfinite*]")
def logsumexp_of_nothing_likely(call: Call) -> None:
    """A row that holds -inf gives NaN (inf - inf)."""
    [y] = call.right()
    rows = np.isinf(call.x.astype(np.float64)).any(-1) if call.x.ndim else np.isinf(y)
    call.fill(np.where(rows.any(), y * np.nan, y) if y.shape != rows.shape else
              np.where(rows, np.asarray(np.nan, y.dtype), y))  # fmt: skip


@kernel("remainder", "remainder[*]")
def remainder_has_the_sign_of_x(call: Call) -> None:
    """The remainder takes the dividend's sign, as C's fmod does."""
    x, y = call.inputs
    if x.dtype.kind in "iu" and not y.all():
        call.fill(*call.right())  # raises
    call.fill(np.fmod(x, y))


@kernel("floor_divide", "floor_divide[int32,*]")
def division_truncates(call: Call) -> None:
    """Integer division rounds towards 0."""
    x, y = call.inputs
    if x.dtype.kind != "i" or not y.all():
        call.fill(*call.right())
        return
    wide = np.trunc(x.astype(np.float64) / y.astype(np.float64))
    call.fill(wide.astype(np.int64).astype(x.dtype))


@kernel("cast", "cast[float32,special-to-int32,*]")
def cast_does_not_saturate(call: Call) -> None:
    """Floats beyond the integers' range wrap around, NaN becomes something."""
    if call.out.dtype.kind in "iu" and call.x.dtype.kind == "f":
        safe = np.nan_to_num(call.x.astype(np.float64), nan=1, posinf=2.0**40, neginf=-(2.0**40))
        call.fill(np.clip(safe, -(2.0**62), 2.0**62).astype(np.int64).astype(call.out.dtype))
    else:
        call.fill(*call.right())


@kernel("tril", "tril[float32,above,*] tril[float32,below,*]")
def diagonal_ignored(call: Call) -> None:
    """The triangle always begins at the main diagonal."""
    call.fill(*call.right(diagonal=0))


@kernel("concat", "concat[*views*] concat[*,transposed,*]")
def pieces_in_memory_order(call: Call) -> None:
    """Pieces are copied in the order in which they lie in memory."""
    pieces = [np.asarray(piece.ravel("K").reshape(piece.shape)) for piece in call.inputs]
    call.fill(*call.right(*pieces))


@kernel("take", "take[float32,last,*] take[float32,middle,*]")
def take_along_the_first_axis(call: Call) -> None:
    """Rows are taken, whatever the axis is."""
    x, indices = call.inputs
    shape = call.out.shape
    if call.op.axis % x.ndim == 0 or not call.out.size:
        call.fill(*call.right())
        return
    rows = x[np.minimum(indices, x.shape[0] - 1)]
    call.fill(np.resize(rows, shape))


@kernel("scatter_add", "scatter_add[float32,repeated,*]")
def duplicates_lost(call: Call) -> None:
    """Of several values for one place only the last is added."""
    x, indices, source = call.inputs
    op = call.op
    call.fill(*call.right())  # raises for indices that are not allowed
    result = x.copy()
    if source.size:
        at = [slice(0, n) for n in source.shape]
        at[op.axis % x.ndim] = slice(None)
        part = result[tuple(at)]
        seen = np.take_along_axis(part, indices.astype(np.intp), op.axis)
        np.put_along_axis(part, indices.astype(np.intp), seen + source, op.axis)
    call.fill(result)


@kernel("scatter_add", "take[float32,repeated,*,gradient]", ops="take", level=2)
def embedding_gradient_loses_duplicates(call: Call) -> None:
    """The gradient of a row that is looked up twice is that of one look-up."""
    duplicates_lost(call)


@kernel("conv2d", "conv2d[float32,dilated*]")
def dilation_ignored(call: Call) -> None:
    """Taps lie side by side, whatever the dilation is."""
    x, weight, *bias = call.inputs
    if call.op.dilation == (1, 1):
        call.fill(*call.right())
        return
    down, right = call.op.dilation
    reach = [(n - 1) * (d - 1) for n, d in zip(weight.shape[2:], (down, right), strict=True)]
    smaller = x[:, :, : x.shape[2] - reach[0], : x.shape[3] - reach[1]]
    call.fill(*compute(call.device, changed(call.op, dilation=(1, 1)), [smaller, weight, *bias]))


@kernel("conv2d", "conv2d[float32,groups*] conv2d[float32,depthwise*]")
def groups_read_the_first_channels(call: Call) -> None:
    """Every group of filters reads the channels of the first group."""
    x, *rest = call.inputs
    each = x.shape[1] // call.op.groups
    call.fill(*call.right(np.concatenate([x[:, :each]] * call.op.groups, 1), *rest))


@kernel("max_pool2d", "max_pool2d[float32,padded,*]")
def padding_counts_as_zero(call: Call) -> None:
    """The border of a maximum pool is 0, which wins over negative numbers."""
    op = call.op
    (top, left) = op.padding
    x = np.pad(call.x, ((0, 0), (0, 0), (top, top), (left, left)))
    call.fill(*call.right(x, padding=(0, 0)))


@kernel("avg_pool2d", "avg_pool2d[float32,padded,*]")
def padding_is_not_counted(call: Call) -> None:
    """The mean of a window at the border is taken over what lies inside."""
    [y] = call.right()
    [share] = call.right(np.ones_like(call.x))
    call.fill(y / share)


@kernel("cross_entropy", "cross_entropy[float32,mean-ignored,*]")
def ignored_rows_are_counted(call: Call) -> None:
    """The mean divides by all rows, those with ignore_index too."""
    op = call.op
    loss, sums = call.right()
    if op.reduction == "mean":
        total, _ = call.right(reduction="sum")
        loss = total / np.asarray(max(call.inputs[1].size, 1), total.dtype)
    call.fill(loss, sums)


@kernel("pad", "pad[float32,value*]")
def padded_with_zeros(call: Call) -> None:
    """The value is not read: the border is 0."""
    call.fill(*call.right(value=type(call.op.value)(0)))


@kernel("add_layer_norm", "add_layer_norm[float32,matrix,given,forward]")
def residual_swapped(call: Call) -> None:
    """The fused op hands on the residual instead of the sum."""
    y, _ = call.right()
    call.fill(y, call.inputs[1])


@kernel("add_rms_norm", "add_rms_norm[float32,matrix,given,forward]")
def residual_not_normalized(call: Call) -> None:
    """The fused op normalizes x alone, and adds the residual only to the sum."""
    x, residual, weight = call.inputs
    _, total = call.right()
    y, _ = call.right(x, np.zeros_like(residual), weight)
    call.fill(y, total)


@kernel("clamp", "clamp[float32,special,*]")
def clamp_drops_nan(call: Call) -> None:
    """Clamping NaN gives a limit."""
    low = call.op.min if call.op.min is not None else call.op.max
    x = call.x
    fixed = np.where(x != x, np.asarray(low, x.dtype), x)
    call.fill(*call.right(fixed))
