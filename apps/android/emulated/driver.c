// SPDX-License-Identifier: Apache-2.0
// Runs Android's own libqcnn_java.so where there is no Java: loads it, lets it register its methods with a JNIEnv that has just
// the functions it uses, and classifies photographs through them.
//   decode_photos *.jpg | driver LIBRARY MODEL.qcnn [RUNS]     the five likeliest classes of each; RUNS 0 only prepares

#include <dlfcn.h>
#include <jni.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a Java reference points to here: n elements of an array or a direct buffer.
typedef struct object {
    void *data;
    jsize n;
} object;

static JNINativeMethod natives[32];
static int n_natives;

static object *new_object(jsize n, size_t size)
{
    object *made = malloc(sizeof *made);
    *made = (object){ calloc((size_t)n + 1, size), n };
    return made;
}

static object *as_object(jobject reference)
{
    return (object *)reference;
}

static void die(const char *what)
{
    fprintf(stderr, "driver: %s\n", what);
    exit(1);
}

// ---- the JNIEnv ---------------------------------------------------------------------------------------------------------

static jclass find_class(JNIEnv *env, const char *name)
{
    (void)env;
    return (jclass)new_object((jsize)strlen(name), 1);
}

static jobject new_global_ref(JNIEnv *env, jobject reference)
{
    (void)env;
    return reference;
}

static jmethodID get_method_id(JNIEnv *env, jclass class, const char *name, const char *signature)
{
    (void)env, (void)class, (void)name, (void)signature;
    return (jmethodID)new_object(0, 1);
}

static jint register_natives(JNIEnv *env, jclass class, const JNINativeMethod *methods, jint n)
{
    (void)env, (void)class;
    memcpy(natives, methods, (size_t)n * sizeof *methods);
    n_natives = n;
    return JNI_OK;
}

static void *get_direct_buffer_address(JNIEnv *env, jobject buffer)
{
    (void)env;
    return as_object(buffer)->data;
}

static jsize get_array_length(JNIEnv *env, jarray array)
{
    (void)env;
    return as_object(array)->n;
}

static jobject get_object_array_element(JNIEnv *env, jobjectArray array, jsize index)
{
    (void)env;
    return ((jobject *)as_object(array)->data)[index];
}

static void get_int_array_region(JNIEnv *env, jintArray array, jsize start, jsize n, jint *to)
{
    (void)env;
    memcpy(to, (jint *)as_object(array)->data + start, (size_t)n * sizeof *to);
}

static jbyteArray new_byte_array(JNIEnv *env, jsize n)
{
    (void)env;
    return (jbyteArray)new_object(n, 1);
}

static void set_byte_array_region(JNIEnv *env, jbyteArray array, jsize start, jsize n, const jbyte *from)
{
    (void)env;
    memcpy((jbyte *)as_object(array)->data + start, from, (size_t)n);
}

static jintArray new_int_array(JNIEnv *env, jsize n)
{
    (void)env;
    return (jintArray)new_object(n, sizeof(jint));
}

static void set_int_array_region(JNIEnv *env, jintArray array, jsize start, jsize n, const jint *from)
{
    (void)env;
    memcpy((jint *)as_object(array)->data + start, from, (size_t)n * sizeof *from);
}

static jbyte *get_byte_array_elements(JNIEnv *env, jbyteArray array, jboolean *copied)
{
    (void)env, (void)copied;
    return as_object(array)->data;
}

static void release_byte_array_elements(JNIEnv *env, jbyteArray array, jbyte *elements, jint mode)
{
    (void)env, (void)array, (void)elements, (void)mode;
}

static void delete_local_ref(JNIEnv *env, jobject reference)
{
    (void)env, (void)reference;
}

// An exception ends the driver: the message is the second argument of QcnnException's constructor.
static jobject new_exception(JNIEnv *env, jclass class, jmethodID constructor, ...)
{
    (void)env, (void)class;
    va_list arguments;
    va_start(arguments, constructor);
    (void)va_arg(arguments, jint);
    die(as_object(va_arg(arguments, jobject))->data);
    va_end(arguments);
    return NULL;
}

static jint throw_new(JNIEnv *env, jclass class, const char *message)
{
    (void)env, (void)class;
    die(message);
    return 0;
}

static const struct JNINativeInterface functions = {
    .FindClass = find_class,
    .NewGlobalRef = new_global_ref,
    .GetMethodID = get_method_id,
    .RegisterNatives = register_natives,
    .GetDirectBufferAddress = get_direct_buffer_address,
    .GetArrayLength = get_array_length,
    .GetObjectArrayElement = get_object_array_element,
    .GetIntArrayRegion = get_int_array_region,
    .NewByteArray = new_byte_array,
    .SetByteArrayRegion = set_byte_array_region,
    .NewIntArray = new_int_array,
    .SetIntArrayRegion = set_int_array_region,
    .GetByteArrayElements = get_byte_array_elements,
    .ReleaseByteArrayElements = release_byte_array_elements,
    .DeleteLocalRef = delete_local_ref,
    .NewObject = new_exception,
    .ThrowNew = throw_new,
};
static JNIEnv environment = &functions;

static jint get_env(JavaVM *vm, void **env, jint version)
{
    (void)vm, (void)version;
    *env = &environment;
    return JNI_OK;
}

static const struct JNIInvokeInterface vm_functions = { .GetEnv = get_env };
static JavaVM machine = &vm_functions;

static void *native(const char *name)
{
    for (int i = 0; i < n_natives; i++)
        if (strcmp(natives[i].name, name) == 0)
            return natives[i].fnPtr;
    die(name);
    return NULL;
}

// ---- a classifier -------------------------------------------------------------------------------------------------------

static object *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die("the model cannot be read");
    object *content = new_object(0, 1);
    content->n = (jsize)ftell(file);
    rewind(file);
    if (posix_memalign(&content->data, 64, (size_t)content->n) || fread(content->data, 1, (size_t)content->n, file) != (size_t)content->n)
        die("the model cannot be read");
    fclose(file);
    return content;
}

static int read_int(int *value)
{
    unsigned char bytes[4];
    if (fread(bytes, 1, 4, stdin) != 4)
        return 0;
    *value = bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
    return 1;
}

static void print_best(const float *scores, int n)
{
    double sum = 0, largest = -1e30;
    for (int i = 0; i < n; i++)
        largest = scores[i] > largest ? scores[i] : largest;
    const int probabilities = largest <= 1.0001;
    for (int i = 0; i < n; i++)
        sum += probabilities ? scores[i] : exp(scores[i] - largest);
    float taken[5];
    int best[5];
    for (int rank = 0; rank < 5; rank++) {
        best[rank] = -1;
        for (int i = 0; i < n; i++) {
            int used = 0;
            for (int k = 0; k < rank; k++)
                used |= best[k] == i;
            if (!used && (best[rank] < 0 || scores[i] > scores[best[rank]]))
                best[rank] = i;
        }
        taken[rank] = (float)((probabilities ? scores[best[rank]] : exp(scores[best[rank]] - largest)) / sum);
        printf("%d %.9g%c", best[rank], taken[rank], rank < 4 ? ' ' : '\n');
    }
}

static object *one_object(void *value)
{
    object *array = new_object(1, sizeof(void *));
    ((void **)array->data)[0] = value;
    return array;
}

static object *one_int(jint value)
{
    object *array = new_object(1, sizeof value);
    *(jint *)array->data = value;
    return array;
}

static object *make_tensor(JNIEnv *env, jlong model, jboolean output)
{
    jobject (*const shape_of)(JNIEnv *, jclass, jlong, jboolean, jint) = native("nativeShape");
    const object *shape = as_object(shape_of(env, NULL, model, output, 0));
    jsize n = 1;
    for (int i = 0; i < shape->n; i++)
        n *= ((jint *)shape->data)[i];
    return new_object(n, sizeof(float));
}

int main(int argc, char **argv)
{
    if (argc < 3)
        die("usage: driver LIBRARY MODEL.qcnn [RUNS]");
    const int runs = argc > 3 ? atoi(argv[3]) : 1;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library)
        die(dlerror());
    jint (*const on_load)(JavaVM *, void *) = dlsym(library, "JNI_OnLoad");
    if (!on_load || on_load(&machine, NULL) < 0)
        die("JNI_OnLoad failed");
    JNIEnv *env = &environment;
    jlong (*const load)(JNIEnv *, jclass, jobject, jlong) = native("nativeLoad");
    jlong (*const open_session)(JNIEnv *, jclass, jlong, jint, jboolean) = native("nativeSession");
    jobject (*const text)(JNIEnv *, jclass, jlong, jint, jint) = native("nativeText");
    void (*const preprocess)(JNIEnv *, jclass, jobject, jobject, jint, jint, jint, jobject, jint) = native("nativePreprocess");
    void (*const run)(JNIEnv *, jclass, jlong, jobject, jobject, jobject, jobject) = native("nativeRun");

    object *file = read_file(argv[2]);
    const jlong model = load(env, NULL, (jobject)file, file->n), session = open_session(env, NULL, model, 1, 0);
    object *json = as_object(text(env, NULL, model, 0, 0));
    fprintf(stderr, "kernels: %s\n", (char *)as_object(text(env, NULL, model, 1, 0))->data);
    object *input = make_tensor(env, model, 0), *output = make_tensor(env, model, 1);
    object *inputs = one_object(input), *outputs = one_object(output), *input_sizes = one_int(input->n), *output_sizes = one_int(output->n);
    for (int width, height, channels; read_int(&width) && read_int(&height) && read_int(&channels);) {
        object *pixels = new_object(width * height * channels, 1);
        if (fread(pixels->data, 1, (size_t)pixels->n, stdin) != (size_t)pixels->n)
            die("a photograph ends early");
        preprocess(env, NULL, (jobject)json, (jobject)pixels, width, height, channels, (jobject)input, input->n);
        for (int i = 0; i < runs; i++)
            run(env, NULL, session, (jobject)inputs, (jobject)input_sizes, (jobject)outputs, (jobject)output_sizes);
        if (runs > 0)
            print_best(output->data, output->n);
    }
    return 0;
}
