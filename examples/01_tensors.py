"""Tensors and automatic differentiation.

Run: python examples/01_tensors.py
"""

import numpy as np

import groundup as gu

# A tensor is an n-dimensional array on a device. It prints like NumPy's, with dtype and device.
x = gu.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(x)
print("shape", x.shape, "dtype", x.dtype, "on", x.device.info.name)

# Operators broadcast. Slices and transposes are views: no data moves.
print("column means:", x.mean(axis=0))
print("centred:", x - x.mean(axis=0))
print("last column:", x[:, -1], "transposed:", x.T.shape)

# NumPy goes in and out.
host = np.linspace(0.0, 1.0, 5, dtype=np.float32)
print("exp of an array:", gu.from_numpy(host).exp().numpy())

# Mark a leaf, compute a scalar from it, and call backward: the gradient arrives in `.grad`.
w = gu.tensor([1.0, -2.0, 0.5], requires_grad=True)
loss = ((x @ w.unsqueeze(1)) ** 2).mean()
loss.backward()
print("loss:", loss.item(), "gradient:", w.grad)

# The same by hand: d/dw mean((x w)^2) = 2/n x^T (x w).
by_hand = 2 / 2 * x.T @ (x @ w.detach().unsqueeze(1))
assert np.allclose(w.grad.numpy(), by_hand.numpy().ravel())

# Gradients are made of ops, so they have gradients of their own.
t = gu.tensor(0.7, requires_grad=True)
y = t.sin()
for order in range(1, 5):  # sin, cos, -sin, -cos, sin
    (y,) = gu.grad(y, [t], create_graph=True)
    print(f"derivative {order} of sin at 0.7: {y.item():+.4f}")

# `value_and_grad` turns a function into one that also gives its gradient.
rosenbrock = gu.value_and_grad(lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2)

# Gradient descent with it, from a point where the slope is steep.
point = gu.tensor([-1.0, 1.5])
for step in range(5001):
    value, slope = rosenbrock(point)
    if step % 1000 == 0:
        print(
            f"step {step:5}: f({point[0].item():.3f}, {point[1].item():.3f}) = {value.item():.6f}"
        )
    point = point - 1e-3 * slope
