/* Smallest element, largest element and L2 norm of a dense tensor in one pass over its memory.

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

/* norm_rows(template, step, flags, parameters, Tensor, float32) -> (rows, total), or None

   Rows of trace/schema.py, 40 bytes each, ready to be written: the template's, with step, flags and norm filled in for
   the gradient of every parameter, and behind them the row of the total, whose flags stay. Left out: a parameter
   without a gradient, and from the rows alone, not from the total, one whose kind is 255. No rows where the total is
   not finite; None where a gradient is not of this very class, or cannot be read here. */
#define ROW 40
#define AT_KIND 12
#define AT_FLAGS 14
#define AT_NORM 32
static PyObject *kernel_norm_rows(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    static PyObject *grad_name;
    Py_ssize_t count = n == 6 ? PyList_Size(args[3]) : -1, length = 0;
    char *template = NULL;
    if (grad_name == NULL)
        grad_name = PyUnicode_InternFromString("grad");
    if (count < 0 || PyBytes_AsStringAndSize(args[0], &template, &length) < 0 || length != ROW * (count + 1)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a row for each parameter and one for the total");
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
    int readable = 1;
    for (Py_ssize_t i = 0; i <= count && readable == 1; i++) {
        double norm = sqrt(total);
        if (i < count) {
            const char *data = NULL;
            size_t elements = 0;
            PyObject *grad = PyObject_GetAttr(PyList_GetItem(args[3], i), grad_name);
            int missing = grad == Py_None;
            readable = grad == NULL ? -1
                : missing           ? 1
                : (PyObject *)Py_TYPE(grad) != args[4] ? 0 : dense(grad, args[5], &data, &elements);
            if (readable == 1 && !missing) {
                norm = norm_of(measured(data, elements, FLOAT32, 0).square);
                total += norm * norm;
            }
            Py_XDECREF(grad);
            if (readable != 1 || missing)
                continue;
        }
        memcpy(row, template + ROW * i, ROW);
        memcpy(row, &step, sizeof step);
        memcpy(row + AT_NORM, &norm, sizeof norm);
        if (i < count)
            row[AT_FLAGS] = (char)flags;
        if ((uint8_t)row[AT_KIND] != 255)
            row += ROW;
    }
    PyObject *kept = readable == 1 ? PyBytes_FromStringAndSize(begin, isfinite(total) ? row - begin : 0) : NULL;
    Py_DECREF(rows);
    if (readable == 0)
        Py_RETURN_NONE;
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
    {"norm_rows", (PyCFunction)(void (*)(void))kernel_norm_rows, METH_FASTCALL,
     "norm_rows(template, step, flags, parameters, Tensor, float32) -> (rows, total)"},
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
    PyObject *made = PyModule_Create(&module), *lookup = made == NULL ? NULL : PyType_FromSpec(&lookup_spec);
    if (lookup == NULL || PyModule_AddObject(made, "Lookup", lookup) < 0) {
        Py_XDECREF(lookup);
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
