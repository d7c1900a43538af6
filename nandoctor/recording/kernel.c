/* Smallest element, largest element and L2 norm of a dense tensor in one pass over its memory; rows of all tensors of an
   optimizer, ready to be written, and what their samples tell.

   torch's own kernels take two passes, two results and three reads of a number for the same, and its foreach norm reads
   an L2-cached parameter at a third of the speed. Built where a C compiler is at hand when nandoctor is installed;
   stats.py reads by torch's kernels where it is not there, and where a tensor is not one dense piece of CPU memory. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
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

/* Address and elements of a dense single-precision tensor of CPU memory; 0 where it must be read otherwise, -1: error. */
static int dense(PyObject *tensor, PyObject *float32, const char **data, size_t *elements)
{
    static PyObject *names[6];
    static const char *const spelled[6] = {"dtype", "is_cpu", "is_contiguous", "is_neg", "data_ptr", "numel"};
    PyObject *found[6] = {NULL};
    int readable = 1;
    for (int i = 0; readable == 1 && i < 6; i++) {
        if (names[i] == NULL && (names[i] = PyUnicode_InternFromString(spelled[i])) == NULL)
            return -1;
        found[i] = i < 2 ? PyObject_GetAttr(tensor, names[i]) : PyObject_CallMethodObjArgs(tensor, names[i], NULL);
        if (found[i] == NULL)
            readable = -1;
        else if (i == 0)
            readable = found[0] == float32;
        else if (i < 4)
            readable = found[i] == (i == 3 ? Py_False : Py_True);
    }
    if (readable == 1) {
        *data = PyLong_AsVoidPtr(found[4]);
        *elements = PyLong_AsSize_t(found[5]);
        readable = PyErr_Occurred() ? -1 : *data != NULL;
    }
    for (int i = 0; i < 6; i++)
        Py_XDECREF(found[i]);
    if (readable < 0 && PyErr_ExceptionMatches(PyExc_RuntimeError)) { /* sparse, in an old torch */
        PyErr_Clear();
        readable = 0;
    }
    return readable;
}

/* What is sampled of each tensor of a list, by probes/plan.py: its elements, how many of them, every how manieth. */
typedef struct {
    uint64_t elements, count, stride; /* stride 0: none is wanted; count 0: it has no gradient */
} Sample;

static Py_ssize_t samples_of(PyObject *bytes, const Sample **found)
{
    char *begin = NULL;
    Py_ssize_t length = -1;
    if (PyBytes_AsStringAndSize(bytes, &begin, &length) < 0)
        return -1;
    if (length % (Py_ssize_t)sizeof(Sample)) {
        PyErr_SetString(PyExc_ValueError, "three numbers for each tensor");
        return -1;
    }
    *found = (const Sample *)begin;
    return length / (Py_ssize_t)sizeof(Sample);
}

/* read_rows(template, step, flags, tensors, class, float32, gradients, room, samples) -> (rows, total), or None

   Rows of trace/schema.py, 40 bytes each, ready to be written: the template's, with step, flags and norm filled in for
   every tensor, or for its gradient, and behind them the row of the total, whose flags stay, if the template has one.
   Left out: a tensor without a gradient, and from the rows alone, not from the total, one whose kind is 255. No rows
   where the total is not finite. With an empty template nothing is measured.

   room: address of single-precision numbers that the samples go to, one tensor behind the other, or 0. None where a
   tensor is not of this very class, cannot be read, or is not as the samples have it. */
#define ROW 40
#define AT_KIND 12
#define AT_FLAGS 14
#define AT_LOW 16
#define AT_HIGH 24
#define AT_NORM 32
static PyObject *kernel_read_rows(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    static PyObject *grad_name;
    Py_ssize_t count = n == 9 ? PyList_Size(args[3]) : -1, length = 0;
    char *template = NULL;
    if (grad_name == NULL)
        grad_name = PyUnicode_InternFromString("grad");
    if (count < 0 || PyBytes_AsStringAndSize(args[0], &template, &length) < 0
        || (length && length != ROW * count && length != ROW * (count + 1))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a row for each tensor, and one for the total");
        return NULL;
    }
    uint32_t step = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    uint8_t flags = (uint8_t)PyLong_AsUnsignedLongMask(args[2]);
    int gradients = PyObject_IsTrue(args[6]);
    float *room = PyLong_AsVoidPtr(args[7]);
    const Sample *sample = NULL;
    if (PyErr_Occurred() || (room != NULL && samples_of(args[8], &sample) != count)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a sample for each tensor");
        return NULL;
    }
    PyObject *rows = PyBytes_FromStringAndSize(NULL, length);
    if (rows == NULL)
        return NULL;
    char *begin = PyBytes_AsString(rows), *row = begin;
    double total = 0;
    int readable = 1;
    for (Py_ssize_t i = 0; i < count && readable == 1; i++) {
        const char *data = NULL;
        size_t elements = 0;
        double norm = 0;
        PyObject *tensor = PyList_GetItem(args[3], i);
        if (tensor != NULL && gradients)
            tensor = PyObject_GetAttr(tensor, grad_name);
        else
            Py_XINCREF(tensor);
        int missing = gradients && tensor == Py_None;
        readable = tensor == NULL ? -1
            : missing             ? room == NULL || !sample[i].count
            : (PyObject *)Py_TYPE(tensor) != args[4] ? 0 : dense(tensor, args[5], &data, &elements);
        if (readable == 1 && !missing && room != NULL) {
            const float *x = (const float *)data;
            readable = !sample[i].stride || (elements == sample[i].elements && (sample[i].count || !gradients));
            for (size_t k = 0; readable && k < sample[i].count; k++)
                *room++ = x[k * sample[i].stride];
        }
        if (readable == 1 && !missing && length) {
            norm = norm_of(measured(data, elements, FLOAT32, 0).square);
            total += norm * norm;
            memcpy(row, template + ROW * i, ROW);
            memcpy(row, &step, sizeof step);
            memcpy(row + AT_NORM, &norm, sizeof norm);
            row[AT_FLAGS] = (char)flags;
            if ((uint8_t)row[AT_KIND] != 255)
                row += ROW;
        }
        Py_XDECREF(tensor);
    }
    total = sqrt(total);
    if (length == ROW * (count + 1)) {
        memcpy(row, template + ROW * count, ROW);
        memcpy(row, &step, sizeof step);
        memcpy(row + AT_NORM, &total, sizeof total);
        row += ROW;
    }
    PyObject *kept = readable == 1 ? PyBytes_FromStringAndSize(begin, isfinite(total) ? row - begin : 0) : NULL;
    Py_DECREF(rows);
    if (readable == 0)
        Py_RETURN_NONE;
    return kept == NULL ? NULL : Py_BuildValue("(Nd)", kept, total);
}

/* change_rows(template, step, flags, ends, before, after, moved, samples) -> rows, or None

   What sampled elements changed by: after - before goes to `moved`, its ends, if they are asked for, and its norm into
   the rows. The template's norm is what the norm of the sample is multiplied by. None where a number is not finite. */
static PyObject *kernel_change_rows(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    char *template = NULL;
    Py_ssize_t length = 0, count;
    const Sample *sample = NULL;
    if (n != 8 || PyBytes_AsStringAndSize(args[0], &template, &length) < 0 || (count = samples_of(args[7], &sample)) < 0
        || length != ROW * count) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a row and a sample for each tensor");
        return NULL;
    }
    uint32_t step = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    uint8_t flags = (uint8_t)PyLong_AsUnsignedLongMask(args[2]);
    int ends = PyObject_IsTrue(args[3]);
    const float *before = PyLong_AsVoidPtr(args[4]), *after = PyLong_AsVoidPtr(args[5]);
    float *moved = PyLong_AsVoidPtr(args[6]);
    if (!PyErr_Occurred() && (before == NULL || after == NULL || moved == NULL))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    PyObject *rows = PyErr_Occurred() ? NULL : PyBytes_FromStringAndSize(NULL, length);
    if (rows == NULL)
        return NULL;
    char *begin = PyBytes_AsString(rows), *row = begin;
    int finite = 1;
    for (Py_ssize_t i = 0; i < count && finite; i++) {
        size_t m = sample[i].count;
        float low = INFINITY, high = -INFINITY;
        double square = 0, share;
        if (!m)
            continue;
        for (size_t k = 0; k < m; k++)
            moved[k] = after[k] - before[k];
        for (size_t k = 0; k < m; k += BLOCK) {
            size_t some = m - k < BLOCK ? m - k : BLOCK;
            if (ends)
                block(moved + k, some, &low, &high, &square);
            else
                square += SQUARED(moved + k, some);
        }
        finite = isfinite(square);
        memcpy(row, template + ROW * i, ROW);
        memcpy(&share, row + AT_NORM, sizeof share);
        double norm = norm_of(square) * share, low_end = low, high_end = high;
        memcpy(row, &step, sizeof step);
        memcpy(row + AT_NORM, &norm, sizeof norm);
        row[AT_FLAGS] = (char)((uint8_t)row[AT_FLAGS] | flags);
        if (ends) {
            memcpy(row + AT_LOW, &low_end, sizeof low_end);
            memcpy(row + AT_HIGH, &high_end, sizeof high_end);
        }
        if ((uint8_t)row[AT_KIND] != 255)
            row += ROW;
        before += m;
        after += m;
        moved += m;
    }
    PyObject *kept = finite ? PyBytes_FromStringAndSize(begin, row - begin) : NULL;
    Py_DECREF(rows);
    if (!finite)
        Py_RETURN_NONE;
    return kept;
}

/* products(now, before, moved, samples) -> (now now, now before, moved before, moved (now - before))

   Of sampled elements, each of which stands for `stride` others. moved may be 0: then its products are. */
FAST static PyObject *kernel_products(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const Sample *sample = NULL;
    Py_ssize_t count = n == 4 ? samples_of(args[3], &sample) : -1;
    if (count < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "products(now, before, moved, samples)");
        return NULL;
    }
    const float *now = PyLong_AsVoidPtr(args[0]), *before = PyLong_AsVoidPtr(args[1]);
    const float *moved = PyLong_AsVoidPtr(args[2]);
    if (!PyErr_Occurred() && (now == NULL || before == NULL))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    if (PyErr_Occurred())
        return NULL;
    double own = 0, turned = 0, along = 0, bent = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        size_t m = sample[i].count;
        double a[4] = {0}, b[4] = {0}, c[4] = {0}, d[4] = {0}, stands_for = (double)sample[i].stride;
        for (size_t k = 0; k < m; k++) {
            a[k % 4] += (double)now[k] * now[k];
            b[k % 4] += (double)now[k] * before[k];
        }
        if (moved != NULL) {
            for (size_t k = 0; k < m; k++) {
                c[k % 4] += (double)moved[k] * before[k];
                d[k % 4] += (double)moved[k] * ((double)now[k] - before[k]);
            }
            moved += m;
        }
        own += stands_for * (a[0] + a[1] + a[2] + a[3]);
        turned += stands_for * (b[0] + b[1] + b[2] + b[3]);
        along += stands_for * (c[0] + c[1] + c[2] + c[3]);
        bent += stands_for * (d[0] + d[1] + d[2] + d[3]);
        now += m;
        before += m;
    }
    return Py_BuildValue("(dddd)", own, turned, along, bent);
}

/* silent(address, outer, units, inner, nonzero, mask) -> units left

   mask: a byte for each unit of single-precision [outer, units, inner]; it stays 1 where no element of the unit is
   above 0 (nonzero: is other than 0) or NaN. */
static PyObject *kernel_silent(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 6) {
        PyErr_SetString(PyExc_TypeError, "silent(address, outer, units, inner, nonzero, mask)");
        return NULL;
    }
    const float *x = PyLong_AsVoidPtr(args[0]);
    size_t outer = PyLong_AsSize_t(args[1]), units = PyLong_AsSize_t(args[2]), inner = PyLong_AsSize_t(args[3]);
    int nonzero = PyObject_IsTrue(args[4]);
    uint8_t *mask = PyLong_AsVoidPtr(args[5]);
    if (!PyErr_Occurred() && (x == NULL || mask == NULL))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    if (PyErr_Occurred())
        return NULL;
    size_t left = 0;
    for (size_t o = 0; o < outer; o++)
        for (size_t u = 0; u < units; u++) {
            const float *unit = x + (o * units + u) * inner;
            for (size_t k = 0; mask[u] && k < inner; k++)
                mask[u] = nonzero ? unit[k] == 0 : unit[k] <= 0;
        }
    for (size_t u = 0; u < units; u++)
        left += mask[u];
    return PyLong_FromSize_t(left);
}

/* spread(address, samples, elements, room) -> rms of single-precision [samples, elements] without the mean of the
   samples / rms; 0 for zeros. room: a double for each element. */
FAST static PyObject *kernel_spread(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 4) {
        PyErr_SetString(PyExc_TypeError, "spread(address, samples, elements, room)");
        return NULL;
    }
    const float *x = PyLong_AsVoidPtr(args[0]);
    size_t samples = PyLong_AsSize_t(args[1]), elements = PyLong_AsSize_t(args[2]);
    double *mean = PyLong_AsVoidPtr(args[3]);
    if (!PyErr_Occurred() && (x == NULL || mean == NULL || samples == 0))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    if (PyErr_Occurred())
        return NULL;
    double whole = 0, apart = 0;
    for (size_t k = 0; k < elements; k++)
        mean[k] = 0;
    for (size_t i = 0; i < samples; i++)
        for (size_t k = 0; k < elements; k++)
            mean[k] += x[i * elements + k];
    for (size_t k = 0; k < elements; k++)
        mean[k] /= (double)samples;
    for (size_t i = 0; i < samples; i++)
        for (size_t k = 0; k < elements; k++) {
            double v = x[i * elements + k], d = v - mean[k];
            whole += v * v;
            apart += d * d;
        }
    return PyFloat_FromDouble(whole > 0 ? sqrt(apart / whole) : 0.0);
}

/* unmoved(gradient, update, square, samples, stride, eps) -> (moved by nothing, pushed, root below eps, root of 0)

   Of single-precision samples: elements with a gradient, and those of them without an update; of every so manieth
   element of the square of the optimizer's denominator, if its address is not 0. */
static PyObject *kernel_unmoved(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 6) {
        PyErr_SetString(PyExc_TypeError, "unmoved(gradient, update, square, samples, stride, eps)");
        return NULL;
    }
    const float *gradient = PyLong_AsVoidPtr(args[0]), *update = PyLong_AsVoidPtr(args[1]);
    const float *square = PyLong_AsVoidPtr(args[2]);
    size_t samples = PyLong_AsSize_t(args[3]), stride = PyLong_AsSize_t(args[4]);
    double eps = PyFloat_AsDouble(args[5]);
    if (!PyErr_Occurred() && (gradient == NULL || update == NULL))
        PyErr_SetString(PyExc_ValueError, "nothing to read");
    if (PyErr_Occurred())
        return NULL;
    size_t still = 0, pushed = 0, below = 0, zero = 0;
    for (size_t k = 0; k < samples; k++) {
        pushed += gradient[k] != 0;
        still += gradient[k] != 0 && update[k] == 0;
        if (square != NULL) {
            float root = sqrtf(square[k * stride]);
            below += root < (float)eps;
            zero += root == 0;
        }
    }
    return Py_BuildValue("(dddd)", (double)still, (double)pushed, (double)below, (double)zero);
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

/* Lookup(original, seen): a descriptor that calls seen(instance) when it is looked up on one, unless it is asleep. */
typedef struct {
    PyObject_HEAD
    PyObject *original, *seen;
    char asleep;
} Lookup;

static int lookup_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Lookup *own = (Lookup *)self;
    PyObject *original, *seen;
    if (!PyArg_ParseTuple(args, "OO", &original, &seen))
        return -1;
    Py_INCREF(original);
    Py_INCREF(seen);
    Py_XDECREF(own->original);
    Py_XDECREF(own->seen);
    own->original = original;
    own->seen = seen;
    return 0;
}

static PyObject *lookup_get(PyObject *self, PyObject *instance, PyObject *owner)
{
    Lookup *own = (Lookup *)self;
    if (own->original == NULL || own->seen == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a Lookup of nothing");
        return NULL;
    }
    if (instance != NULL && !own->asleep) {
        PyObject *done = PyObject_CallFunctionObjArgs(own->seen, instance, NULL);
        if (done == NULL)
            return NULL;
        Py_DECREF(done);
    }
    descrgetfunc get = (descrgetfunc)PyType_GetSlot(Py_TYPE(own->original), Py_tp_descr_get);
    if (get != NULL)
        return get(own->original, instance, owner);
    Py_INCREF(own->original);
    return own->original;
}

static int lookup_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Lookup *)self)->original);
    Py_VISIT(((Lookup *)self)->seen);
    return 0;
}

static int lookup_clear(PyObject *self)
{
    Py_CLEAR(((Lookup *)self)->original);
    Py_CLEAR(((Lookup *)self)->seen);
    return 0;
}

static void lookup_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    lookup_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef lookup_members[] = {
    {"original", T_OBJECT, offsetof(Lookup, original), READONLY, NULL},
    {"seen", T_OBJECT, offsetof(Lookup, seen), READONLY, NULL},
    {"asleep", T_BOOL, offsetof(Lookup, asleep), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lookup_slots[] = {
    {Py_tp_init, lookup_init},
    {Py_tp_descr_get, lookup_get},
    {Py_tp_traverse, lookup_traverse},
    {Py_tp_clear, lookup_clear},
    {Py_tp_dealloc, lookup_dealloc},
    {Py_tp_members, lookup_members},
    {0, NULL},
};

static PyType_Spec lookup_spec = {
    "nandoctor.recording.kernel.Lookup", sizeof(Lookup), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, lookup_slots};

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))kernel_read, METH_FASTCALL, "read(address, elements, dtype) -> (low, high, norm)"},
    {"norms", (PyCFunction)(void (*)(void))kernel_norms, METH_FASTCALL, "norms(address, elements, dtype, ...) -> [norm, ...]"},
    {"read_rows", (PyCFunction)(void (*)(void))kernel_read_rows, METH_FASTCALL,
     "read_rows(template, step, flags, tensors, class, float32, gradients, room, samples) -> (rows, total)"},
    {"change_rows", (PyCFunction)(void (*)(void))kernel_change_rows, METH_FASTCALL,
     "change_rows(template, step, flags, ends, before, after, moved, samples) -> rows"},
    {"products", (PyCFunction)(void (*)(void))kernel_products, METH_FASTCALL,
     "products(now, before, moved, samples) -> four numbers"},
    {"silent", (PyCFunction)(void (*)(void))kernel_silent, METH_FASTCALL,
     "silent(address, outer, units, inner, nonzero, mask) -> units left"},
    {"spread", (PyCFunction)(void (*)(void))kernel_spread, METH_FASTCALL,
     "spread(address, samples, elements, room) -> share"},
    {"unmoved", (PyCFunction)(void (*)(void))kernel_unmoved, METH_FASTCALL,
     "unmoved(gradient, update, square, samples, stride, eps) -> four numbers"},
#if defined(__unix__) || defined(__APPLE__)
    {"append", (PyCFunction)(void (*)(void))kernel_append, METH_FASTCALL,
     "append(descriptor, device, inode, whole, data) -> bool"},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "kernel", "Reads tensors in one pass.", -1, methods};

PyMODINIT_FUNC PyInit_kernel(void)
{
    PyObject *made = PyModule_Create(&module), *lookup = made == NULL ? NULL : PyType_FromSpec(&lookup_spec);
    if (lookup == NULL || PyModule_AddObject(made, "Lookup", lookup) < 0) {
        Py_XDECREF(lookup);
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
