// tensor_cores.cu for the processor: the same functions, by the same lanes.
#define TENSOR_CORES

struct Fragments {
    u32 a[4], b[2];
};

// c += a b for a 16 x 16 and b 16 x 8; see tensor_cores.cu for where the elements are.
template <typename T>
static void multiply(T, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    const int lane = emulated::current % 32;
    Fragments mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}}, all[32];
    emulated::gather(mine, all);
    const auto element = [](u32 pair, int k) {
        T x;
        x.bits = (u16)(pair >> 16 * (k % 2));
        return load(x);
    };
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; ++k) {
            const u32 x = all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
            const u32 y = all[column * 4 + k % 8 / 2].b[k / 8];
            c[i] += element(x, k) * element(y, k);
        }
    }
}

static void load_four(u32 (&r)[4], const void *row, bool turned) {
    if ((uintptr_t)row % 16) emulated::misuse("ldmatrix reads at places that 16 divides");
    const int lane = emulated::current % 32;
    const u16 *rows[32];
    emulated::gather((const u16 *)row, rows);
    for (int m = 0; m < 4; ++m) {
        u16 pair[2];
        for (int i = 0; i < 2; ++i) {
            const int down = lane / 4, along = lane % 4 * 2 + i;
            pair[i] = turned ? rows[m * 8 + along][down] : rows[m * 8 + down][along];
        }
        r[m] = pair[0] | (u32)pair[1] << 16;
    }
}
static void load_matrices(u32 (&r)[4], const void *row) { load_four(r, row, false); }
static void load_turned(u32 (&r)[4], const void *row) { load_four(r, row, true); }

template <typename T> static u32 pair_of(T, float first, float second) {
    T x, y;
    store(x, first);
    store(y, second);
    return x.bits | (u32)y.bits << 16;
}
static float power_of_two(float x) { return exp2f(x); }

static void copy_16(void *to, const void *from, bool live) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) emulated::misuse("cp.async needs 16 bytes");
    if (live) memcpy(to, from, 16);
    else memset(to, 0, 16);
}
static void copy_4(void *to, const void *from, bool live) {
    if (live) memcpy(to, from, 4);
    else memset(to, 0, 4);
}
static void wait_for_copies() {}
