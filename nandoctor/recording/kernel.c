/* Smallest element, largest element and L2 norm of a dense tensor in one pass over its memory.

   torch's own kernels take two passes, two results and three reads of a number for the same, and its foreach norm reads
   an L2-cached parameter at a third of the speed. Built where a C compiler is at hand when nandoctor is installed;
   stats.py reads by torch's kernels where it is not there, and where a tensor is not one dense piece of CPU memory. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__unix__) || defined(__APPLE__)
#include <sys/stat.h>
#include <unistd.h>
#endif

#define LANES 16
#define BLOCK 4096        /* elements summed in single precision before the sum goes on in double */
#define LONG (1 << 20)    /* elements: other threads may run meanwhile */

enum { FLOAT32, FLOAT64, FLOAT16, BFLOAT16 };

typedef struct {
    double low, high, square;
} Stats;

#if defined(__GNUC__) && !defined(__clang__)
#define FAST __attribute__((optimize("O3")))
#else
#define FAST
#endif

#if defined(__GNUC__)
typedef float Floats __attribute__((vector_size(16))); /* every processor of today has registers of this size */
typedef int32_t Masks __attribute__((vector_size(16)));
#if defined(__SSE__)
#include <xmmintrin.h>
#define LEAST(a, b) _mm_min_ps(a, b) /* a < b ? a : b */
#define MOST(a, b) _mm_max_ps(a, b)
#else
#define CHOSEN(mask, a, b) ((Floats)(((mask) & (Masks)(a)) | (~(mask) & (Masks)(b))))
#define LEAST(a, b) CHOSEN((a) < (b), a, b)
#define MOST(a, b) CHOSEN((a) > (b), a, b)
#endif
#endif

/* Ignores NaN in the ends; the square shows whether there was one. */
FAST static void block(const float *x, size_t n, float *low, float *high, double *square)
{
    float lo[LANES], hi[LANES], sum[LANES];
    for (int j = 0; j < LANES; j++) {
        lo[j] = INFINITY;
        hi[j] = -INFINITY;
        sum[j] = 0;
    }
    size_t i = 0;
#if defined(__GNUC__)
    Floats los[LANES / 4], his[LANES / 4], sums[LANES / 4], v;
    memcpy(los, lo, sizeof los);
    memcpy(his, hi, sizeof his);
    memcpy(sums, sum, sizeof sums);
    for (; i + LANES <= n; i += LANES)
#pragma GCC unroll 4
        for (int k = 0; k < LANES / 4; k++) {
            memcpy(&v, x + i + 4 * k, sizeof v);
            los[k] = LEAST(v, los[k]);
            his[k] = MOST(v, his[k]);
            sums[k] += v * v;
        }
    memcpy(lo, los, sizeof los);
    memcpy(hi, his, sizeof his);
    memcpy(sum, sums, sizeof sums);
#endif
    for (int j = 0; i < n; i++, j = (j + 1) % LANES) {
        float v = x[i];
        lo[j] = v < lo[j] ? v : lo[j];
        hi[j] = v > hi[j] ? v : hi[j];
        sum[j] += v * v;
    }
    for (int j = 0; j < LANES; j++) {
        if (lo[j] < *low)
            *low = lo[j];
        if (hi[j] > *high)
            *high = hi[j];
        *square += sum[j];
    }
}

/* Without the ends; the same text twice, once for processors with wider registers. */
#define SQUARE(name)                                                                                                   \
    static double name(const float *x, size_t n)                                                                       \
    {                                                                                                                  \
        float sum[2 * LANES] = {0};                                                                                    \
        double square = 0;                                                                                             \
        size_t i = 0;                                                                                                  \
        for (; i + 2 * LANES <= n; i += 2 * LANES)                                                                     \
            for (int j = 0; j < 2 * LANES; j++)                                                                        \
                sum[j] += x[i + j] * x[i + j];                                                                         \
        for (int j = 0; i < n; i++, j++)                                                                               \
            sum[j] += x[i] * x[i];                                                                                     \
        for (int j = 0; j < 2 * LANES; j++)                                                                            \
            square += sum[j];                                                                                          \
        return square;                                                                                                 \
    }

FAST SQUARE(square_of)
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
FAST __attribute__((target("avx2,fma"))) SQUARE(square_wide)
#define WIDE __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? square_wide
#define SQUARED (WIDE : square_of)
#else
#define SQUARED square_of
#endif

static float widened(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Without a branch: Inf and NaN keep their ones in the exponent by the second factor. */
static float half(uint16_t h)
{
    uint32_t full = (uint32_t)-((h & 0x7c00) == 0x7c00) & 0x7f800000;
    uint32_t size = (uint32_t)(h & 0x7fff) << 13;
    float finite = widened(size) * 0x1p112f;
    uint32_t bits;
    memcpy(&bits, &finite, sizeof bits);
    return widened(bits | full | (uint32_t)(h & 0x8000) << 16);
}

/* Up to BLOCK elements as single precision; those that are so already stay where they are. */
FAST static const float *floats(const char *data, size_t begin, size_t n, int dtype, float *room)
{
    if (dtype == FLOAT32)
        return (const float *)data + begin;
    const uint16_t *x = (const uint16_t *)data + begin;
    if (dtype == BFLOAT16)
        for (size_t i = 0; i < n; i++)
            room[i] = widened((uint32_t)x[i] << 16);
    else
        for (size_t i = 0; i < n; i++)
            room[i] = half(x[i]);
    return room;
}

static double element(const char *data, size_t i, int dtype)
{
    float room;
    return dtype == FLOAT64 ? ((const double *)data)[i] : *floats(data, i, 1, dtype, &room);
}

/* Every element by itself: a NaN goes into both ends, squares in double do not overflow where elements are single. */
static Stats exactly(const char *data, size_t n, int dtype)
{
    Stats s = {INFINITY, -INFINITY, 0};
    for (size_t i = 0; i < n; i++) {
        double v = element(data, i, dtype);
        if (isnan(v))
            return (Stats){NAN, NAN, NAN};
        s.low = v < s.low ? v : s.low;
        s.high = v > s.high ? v : s.high;
        s.square += v * v;
    }
    return s;
}

static Stats measured(const char *data, size_t n, int dtype, int ends)
{
    if (dtype == FLOAT64)
        return exactly(data, n, dtype);
    float room[BLOCK], low = INFINITY, high = -INFINITY;
    double square = 0;
    for (size_t i = 0; i < n; i += BLOCK) {
        size_t m = n - i < BLOCK ? n - i : BLOCK;
        const float *x = floats(data, i, m, dtype, room);
        if (ends)
            block(x, m, &low, &high, &square);
        else
            square += SQUARED(x, m);
    }
    if (!isfinite(square))
        return exactly(data, n, dtype);
    return (Stats){low, high, square};
}

/* In single precision, where that holds it: a norm is no more exact than its elements, and packs into half the bytes. */
static double norm_of(double square)
{
    float norm = (float)sqrt(square);
    return isinf(norm) ? sqrt(square) : norm;
}

static int asked(PyObject *pointer, PyObject *count, PyObject *dtype, int ends, Stats *found)
{
    const char *data = PyLong_AsVoidPtr(pointer);
    size_t n = PyLong_AsSize_t(count);
    long kind = PyLong_AsLong(dtype);
    if (PyErr_Occurred())
        return -1;
    if (data == NULL || n == 0 || kind < FLOAT32 || kind > BFLOAT16) {
        PyErr_SetString(PyExc_ValueError, "nothing to read");
        return -1;
    }
    if (n < LONG)
        *found = measured(data, n, (int)kind, ends);
    else {
        Py_BEGIN_ALLOW_THREADS
        *found = measured(data, n, (int)kind, ends);
        Py_END_ALLOW_THREADS
    }
    return 0;
}

/* Into a new list; the list is given up where that fails, or an argument was no number. */
static void put(PyObject **list, Py_ssize_t place, double number)
{
    PyObject *made = PyErr_Occurred() ? NULL : PyFloat_FromDouble(number);
    if (made == NULL || PyList_SetItem(*list, place, made) < 0)
        Py_CLEAR(*list);
}

/* read(address, elements, dtype) -> (low, high, norm) */
static PyObject *kernel_read(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Stats found;
    if (n != 3) {
        PyErr_SetString(PyExc_TypeError, "read(address, elements, dtype)");
        return NULL;
    }
    if (asked(args[0], args[1], args[2], 1, &found) < 0)
        return NULL;
    return Py_BuildValue("(ddd)", found.low, found.high, norm_of(found.square));
}

/* norms(address, elements, dtype, address, ...) -> [norm, ...] */
static PyObject *kernel_norms(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    PyObject *result = PyList_New(n / 3);
    for (Py_ssize_t i = 0; result != NULL && i < n / 3; i++) {
        Stats found = {0, 0, 0};
        asked(args[3 * i], args[3 * i + 1], args[3 * i + 2], 0, &found);
        put(&result, i, norm_of(found.square));
    }
    return result;
}

/* norm_rows(template, step, flags, address, elements, address, ...) -> (rows, total)

   Rows of trace/schema.py, 40 bytes each, ready to be written: the template's, with step, flags and norm filled in for
   every single-precision tensor, and behind them the row of the total, whose flags stay. Left out: a tensor at address
   0, and from the rows alone, not from the total, one whose kind is 255. No rows where the total is not finite. */
#define ROW 40
#define AT_KIND 12
#define AT_FLAGS 14
#define AT_NORM 32
static PyObject *kernel_norm_rows(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Py_ssize_t count = (n - 3) / 2, length = 0;
    char *template = NULL;
    if (n < 3 || PyBytes_AsStringAndSize(args[0], &template, &length) < 0 || length != ROW * (count + 1)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a row for each tensor and one for the total");
        return NULL;
    }
    uint32_t step = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    uint8_t flags = (uint8_t)PyLong_AsUnsignedLongMask(args[2]);
    PyObject *rows = PyBytes_FromStringAndSize(NULL, length);
    if (rows == NULL || PyErr_Occurred()) {
        Py_XDECREF(rows);
        return NULL;
    }
    char *begin = PyBytes_AsString(rows), *row = begin;
    double total = 0;
    for (Py_ssize_t i = 0; i <= count; i++) {
        double norm = sqrt(total);
        if (i < count) {
            const char *data = PyLong_AsVoidPtr(args[3 + 2 * i]);
            size_t elements = PyLong_AsSize_t(args[4 + 2 * i]);
            if (data == NULL || PyErr_Occurred())
                continue;
            norm = norm_of(measured(data, elements, FLOAT32, 0).square);
            total += norm * norm;
        }
        memcpy(row, template + ROW * i, ROW);
        memcpy(row, &step, sizeof step);
        memcpy(row + AT_NORM, &norm, sizeof norm);
        if (i < count)
            row[AT_FLAGS] = (char)flags;
        if ((uint8_t)row[AT_KIND] != 255)
            row += ROW;
    }
    PyObject *kept = PyErr_Occurred() ? NULL : PyBytes_FromStringAndSize(begin, isfinite(total) ? row - begin : 0);
    Py_DECREF(rows);
    return kept == NULL ? NULL : Py_BuildValue("(Nd)", kept, sqrt(total));
}

/* gather(room, address, samples, stride, address, ...): single precision, one after the other */
static PyObject *kernel_gather(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    float *room = n > 0 ? PyLong_AsVoidPtr(args[0]) : NULL;
    for (Py_ssize_t i = 1; i + 2 < n; i += 3) {
        const float *x = PyLong_AsVoidPtr(args[i]);
        size_t count = PyLong_AsSize_t(args[i + 1]), stride = PyLong_AsSize_t(args[i + 2]);
        if (PyErr_Occurred())
            return NULL;
        if (room == NULL || x == NULL) {
            PyErr_SetString(PyExc_ValueError, "nothing to read");
            return NULL;
        }
        for (size_t k = 0; k < count; k++)
            room[k] = x[k * stride];
        room += count;
    }
    Py_RETURN_NONE;
}

/* Of elements: none where it is no number, which put() finds out. */
static size_t number_of(PyObject *elements)
{
    size_t count = PyLong_AsSize_t(elements);
    return PyErr_Occurred() ? 0 : count;
}

static int pieces(PyObject *const *args, Py_ssize_t n, const float **a, const float **b)
{
    *a = n > 1 ? PyLong_AsVoidPtr(args[0]) : NULL;
    *b = n > 1 ? PyLong_AsVoidPtr(args[1]) : NULL;
    if (!PyErr_Occurred() && (*a == NULL || *b == NULL))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    return PyErr_Occurred() ? -1 : 0;
}

/* differences(before, after, elements, elements, ...) -> [low, high, norm, low, ...] of after - before, piece by piece */
static PyObject *kernel_differences(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const float *before, *after;
    if (pieces(args, n, &before, &after) < 0)
        return NULL;
    PyObject *result = PyList_New(3 * (n - 2));
    for (Py_ssize_t i = 2; result != NULL && i < n; i++) {
        size_t count = number_of(args[i]);
        Stats s = {INFINITY, -INFINITY, 0};
        for (size_t k = 0; k < count; k++) {
            double v = (double)after[k] - before[k];
            s.low = v < s.low ? v : s.low;
            s.high = v > s.high ? v : s.high;
            s.square += v * v;
        }
        if (isnan(s.square))
            s.low = s.high = NAN;
        before += count;
        after += count;
        double numbers[3] = {(float)s.low, (float)s.high, norm_of(s.square)};
        for (int k = 0; result != NULL && k < 3; k++)
            put(&result, 3 * (i - 2) + k, numbers[k]);
    }
    return result;
}

/* dots(a, b, elements, elements, ...) -> [product, ...], piece by piece */
static PyObject *kernel_dots(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const float *a, *b;
    if (pieces(args, n, &a, &b) < 0)
        return NULL;
    PyObject *result = PyList_New(n - 2);
    for (Py_ssize_t i = 2; result != NULL && i < n; i++) {
        size_t count = number_of(args[i]);
        double sum = 0;
        for (size_t k = 0; k < count; k++)
            sum += (double)a[k] * b[k];
        a += count;
        b += count;
        put(&result, i - 2, sum);
    }
    return result;
}

#if defined(__unix__) || defined(__APPLE__)
/* append(descriptor, device, inode, whole, data) -> bool: the file is still that one and is written, all at once.

   What else there is to do, where it returns False, trace/spool.py does. */
static PyObject *kernel_append(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    char *data;
    Py_ssize_t length;
    if (n != 5) {
        PyErr_SetString(PyExc_TypeError, "append(descriptor, device, inode, whole, data)");
        return NULL;
    }
    int descriptor = (int)PyLong_AsLong(args[0]);
    unsigned long long device = PyLong_AsUnsignedLongLong(args[1]), inode = PyLong_AsUnsignedLongLong(args[2]);
    Py_ssize_t whole = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[4], &data, &length) < 0)
        return NULL;
    struct stat now;
    int done;
    Py_BEGIN_ALLOW_THREADS
    done = fstat(descriptor, &now) == 0 && (unsigned long long)now.st_dev == device
        && (unsigned long long)now.st_ino == inode && whole > 0 && now.st_size % whole == 0;
    if (done) {
        ssize_t written = write(descriptor, data, (size_t)length);
        if (written >= 0 && written < length) /* the end of a disk, or a signal: as if nothing had been written */
            (void)!ftruncate(descriptor, now.st_size);
        done = written == length;
    }
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(done);
}
#endif

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))kernel_read, METH_FASTCALL, "read(address, elements, dtype) -> (low, high, norm)"},
    {"norms", (PyCFunction)(void (*)(void))kernel_norms, METH_FASTCALL, "norms(address, elements, dtype, ...) -> [norm, ...]"},
    {"norm_rows", (PyCFunction)(void (*)(void))kernel_norm_rows, METH_FASTCALL,
     "norm_rows(template, step, flags, address, elements, ...) -> (rows, total)"},
    {"gather", (PyCFunction)(void (*)(void))kernel_gather, METH_FASTCALL, "gather(room, address, samples, stride, ...)"},
    {"differences", (PyCFunction)(void (*)(void))kernel_differences, METH_FASTCALL,
     "differences(before, after, elements, ...) -> [low, high, norm, ...]"},
    {"dots", (PyCFunction)(void (*)(void))kernel_dots, METH_FASTCALL, "dots(a, b, elements, ...) -> [product, ...]"},
#if defined(__unix__) || defined(__APPLE__)
    {"append", (PyCFunction)(void (*)(void))kernel_append, METH_FASTCALL,
     "append(descriptor, device, inode, whole, data) -> bool"},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "kernel", "Reads tensors in one pass.", -1, methods};

PyMODINIT_FUNC PyInit_kernel(void)
{
    return PyModule_Create(&module);
}
