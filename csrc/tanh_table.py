"""Makes tanh_table.h: tanh on [0, 9.02] in 13 pieces, each a polynomial of degree 6 about a centre.

A centre is the float32 near the middle of its piece whose tanh is nearest to a float32: a constant term that needs no rounding. The other coefficients are rounded
to float32 one after another, the lowest first, and those that are left are fitted again each time, by least squares whose weights are moved towards equal errors.

    python csrc/tanh_table.py > csrc/tanh_table.h
"""

import itertools

import numpy as np

EDGES = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 9.02]
"""|x| + 1 has the same exponent and the same two leading bits of the mantissa all over a piece."""
DEGREE = 6
wide = np.longdouble


def centre(low: float, high: float) -> np.float32:
    middle = np.float32((low + high) / 2)
    near = (middle.view(np.int32) + np.arange(-3000, 3001, dtype=np.int32)).view(np.float32)
    value = np.tanh(near.astype(wide))
    return near[np.argmin(np.abs(value - value.astype(np.float32)) / value)]


def piece(low: float, high: float) -> list[np.float32]:
    """The column of the table: centre, constant, coefficients. In the piece at zero the first three are 0, 0 and 1: tanh(x) is x there."""
    middle = centre(low, high) if low else np.float32(0)
    constant = np.tanh(middle.astype(wide)).astype(np.float32)
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(200, dtype=wide) + 0.5) / 200)
    u = x - middle
    rest, relative = (np.tanh(x) - constant) / u, np.abs(u) / np.tanh(x)
    column = [middle, constant]
    for k in range(DEGREE):
        powers, weight = u[:, None] ** np.arange(k, DEGREE), relative.copy()
        for _ in range(30):
            fit = np.linalg.lstsq((powers * weight[:, None]).astype(float), (rest * weight).astype(float), rcond=None)[0]
            error = np.abs(rest - powers @ fit) * relative
            weight *= (error / error.max() + 0.02) ** 0.3
        column.append(np.float32(1 if k == 0 and not low else fit[0]))
        rest -= column[-1] * u**k
    assert np.abs(rest * relative).max() < 2e-8
    return column


columns = [piece(low, high) for low, high in itertools.pairwise(EDGES)]
columns += [columns[-1]] * (16 - len(columns))
order = np.roll(np.arange(16), 12)  # of the four bits: those of 1 are 12
print("/* Made by tanh_table.py. Rows: the centre; the constant; the coefficients of u to u^6, u = |x| - centre. */")
print("/* clang-format off */\nstatic const float V(tanh_table)[8][16] __attribute__((aligned(64))) = {")
for row in zip(*columns, strict=True):
    entries = [float(row[i]).hex().replace("0000000p", "p") + "f" for i in order]
    print("    {" + ", ".join(entries[:8]) + ",\n     " + ", ".join(entries[8:]) + "},")
print("};\n/* clang-format on */")
