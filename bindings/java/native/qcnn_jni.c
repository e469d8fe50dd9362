// SPDX-License-Identifier: Apache-2.0
// The native half of org.qcnn.engine.Network. Handles are pointers in a jlong; the Java half sees to it that none is used
// after its end and that one session runs in one thread at a time. Lengths of buffers come from Java and are checked here
// against what the network needs, so that no call can reach beyond a buffer.

#include <jni.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qcnn.h"
#include "qcnn_compress.h"
#include "qcnn_image.h"

enum { MAX_PORTS = 64 };

typedef struct java_session {
    const qcnn_model *model;
    qcnn_session *session;
    qcnn_pool *pool; // NULL: one thread
} java_session;

static jclass exception_class; // QcnnException, and its constructor (int status, byte[] message)
static jmethodID exception_constructor;

// ---- between Java and C ---------------------------------------------------------------------------------------------

static void throw_java(JNIEnv *env, const char *class_name, const char *message)
{
    const jclass class = (*env)->FindClass(env, class_name);
    if (class)
        (*env)->ThrowNew(env, class, message);
}

static jbyteArray bytes_of(JNIEnv *env, const char *text)
{
    const jsize n = (jsize)strlen(text);
    const jbyteArray bytes = (*env)->NewByteArray(env, n);
    if (bytes)
        (*env)->SetByteArrayRegion(env, bytes, 0, n, (const jbyte *)text);
    return bytes;
}

static void throw_error(JNIEnv *env, const qcnn_error *error)
{
    const jbyteArray message = bytes_of(env, error->message);
    const jobject exception = message ? (*env)->NewObject(env, exception_class, exception_constructor, (jint)error->status, message) : NULL;
    if (exception)
        (*env)->Throw(env, exception);
}

static jlong to_handle(void *pointer)
{
    return (jlong)(intptr_t)pointer;
}

static const qcnn_model *model_of(jlong handle)
{
    return (const qcnn_model *)(intptr_t)handle;
}

static java_session *session_of(jlong handle)
{
    return (java_session *)(intptr_t)handle;
}

static int64_t elements_of(const qcnn_shape *shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape->rank; i++)
        n *= shape->dims[i];
    return n;
}

static double clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

// ---- networks -------------------------------------------------------------------------------------------------------

static jlong native_load(JNIEnv *env, jclass class, jobject file, jlong n_bytes)
{
    (void)class;
    const void *data = (*env)->GetDirectBufferAddress(env, file);
    qcnn_load_options options = qcnn_load_options_default();
    options.run_only = 1;
    qcnn_model *model;
    qcnn_error error;
    if (qcnn_model_load(data, data ? (size_t)n_bytes : 0, &options, &model, &error))
        throw_error(env, &error);
    return to_handle(model);
}

static void native_free(JNIEnv *env, jclass class, jlong model)
{
    (void)env, (void)class;
    qcnn_model_free((qcnn_model *)(intptr_t)model);
}

static jlong native_original_bytes(JNIEnv *env, jclass class, jlong model)
{
    (void)env, (void)class;
    return (jlong)qcnn_model_original_bytes(model_of(model));
}

static jintArray native_counts(JNIEnv *env, jclass class, jlong handle)
{
    (void)class;
    const qcnn_model *model = model_of(handle);
    const jint counts[] = { qcnn_model_n_classes(model), qcnn_model_n_inputs(model), qcnn_model_n_outputs(model),
                            qcnn_model_n_layers(model) };
    const jintArray array = (*env)->NewIntArray(env, 4);
    if (array)
        (*env)->SetIntArrayRegion(env, array, 0, 4, counts);
    return array;
}

static jbyteArray native_text(JNIEnv *env, jclass class, jlong handle, jint kind, jint index)
{
    (void)class;
    const qcnn_model *model = model_of(handle);
    const char *text = NULL;
    switch (kind) { // the order of Network.Text
    case 0: text = qcnn_model_preprocessing(model); break;
    case 1: text = qcnn_model_kernels(model); break;
    case 2: text = qcnn_model_class(model, index); break;
    case 3: text = qcnn_model_input(model, index).name; break;
    case 4: text = qcnn_model_output(model, index).name; break;
    case 5: text = qcnn_model_layer(model, index).name; break;
    case 6: text = qcnn_model_layer(model, index).type; break;
    case 7: text = qcnn_model_layer(model, index).storage; break;
    case 8: text = qcnn_model_layer(model, index).method; break;
    default: break;
    }
    return text ? bytes_of(env, text) : NULL;
}

static jintArray native_shape(JNIEnv *env, jclass class, jlong model, jboolean output, jint index)
{
    (void)class;
    const qcnn_shape shape = output ? qcnn_model_output(model_of(model), index).shape : qcnn_model_input(model_of(model), index).shape;
    jint dims[QCNN_MAX_RANK];
    for (int i = 0; i < shape.rank; i++)
        dims[i] = (jint)shape.dims[i];
    const jintArray array = (*env)->NewIntArray(env, shape.rank);
    if (array)
        (*env)->SetIntArrayRegion(env, array, 0, shape.rank, dims);
    return array;
}

static jlongArray native_layer_numbers(JNIEnv *env, jclass class, jlong model, jint index)
{
    (void)class;
    const qcnn_layer_info layer = qcnn_model_layer(model_of(model), index);
    const jlong numbers[] = { layer.subspace, layer.codewords, (jlong)layer.weights, (jlong)layer.bytes };
    const jlongArray array = (*env)->NewLongArray(env, 4);
    if (array)
        (*env)->SetLongArrayRegion(env, array, 0, 4, numbers);
    return array;
}

// ---- preprocessing --------------------------------------------------------------------------------------------------

static qcnn_status preprocess(const char *json, size_t n_json, const qcnn_image *image, float *tensor, int n_elements, qcnn_error *error)
{
    qcnn_preprocess how;
    int width, height;
    qcnn_status status = qcnn_preprocess_parse(json, n_json, &how, error);
    if (status == QCNN_OK)
        status = qcnn_preprocess_size(&how, image->width, image->height, &width, &height, error);
    if (status == QCNN_OK && (int64_t)how.n_channels * width * height != n_elements) {
        *error = (qcnn_error){ QCNN_ERROR_ARGUMENT, "preprocessing makes a tensor of another size than the one given" };
        status = QCNN_ERROR_ARGUMENT;
    }
    return status == QCNN_OK ? qcnn_preprocess_image(&how, image, tensor, error) : status;
}

static void native_preprocess(JNIEnv *env, jclass class, jbyteArray json, jobject pixels, jint width, jint height, jint channels,
                              jobject tensor, jint n_elements)
{
    (void)class;
    const qcnn_image image = { width, height, channels, (*env)->GetDirectBufferAddress(env, pixels) };
    float *floats = (*env)->GetDirectBufferAddress(env, tensor);
    jbyte *text = (*env)->GetByteArrayElements(env, json, NULL);
    if (!text)
        return; // OutOfMemoryError is under way
    qcnn_error error;
    const qcnn_status status =
        preprocess((const char *)text, (size_t)(*env)->GetArrayLength(env, json), &image, floats, n_elements, &error);
    (*env)->ReleaseByteArrayElements(env, json, text, JNI_ABORT);
    if (status != QCNN_OK)
        throw_error(env, &error);
}

// ---- sessions -------------------------------------------------------------------------------------------------------

static void free_session(java_session *session)
{
    if (!session)
        return;
    qcnn_session_free(session->session);
    qcnn_pool_free(session->pool);
    free(session);
}

static qcnn_status make_session(java_session *session, int n_threads, int timed, qcnn_error *error)
{
    if (n_threads < 1) {
        *error = (qcnn_error){ QCNN_ERROR_ARGUMENT, "a session needs one thread at least" };
        return QCNN_ERROR_ARGUMENT;
    }
    qcnn_status status = n_threads > 1 ? qcnn_pool_create(n_threads, &session->pool, error) : QCNN_OK;
    if (status != QCNN_OK)
        return status;
    qcnn_session_options options = qcnn_session_options_default();
    options.parallel = qcnn_pool_hook(session->pool);
    options.clock_ms = timed ? clock_ms : NULL;
    return qcnn_session_create(session->model, &options, &session->session, error);
}

static jlong native_session(JNIEnv *env, jclass class, jlong model, jint n_threads, jboolean timed)
{
    (void)class;
    java_session *session = malloc(sizeof *session);
    qcnn_error error = { QCNN_ERROR_MEMORY, "no memory for a session" };
    if (session) {
        *session = (java_session){ .model = model_of(model) };
        if (make_session(session, n_threads, timed, &error) == QCNN_OK)
            return to_handle(session);
    }
    free_session(session);
    throw_error(env, &error);
    return 0;
}

static void native_session_free(JNIEnv *env, jclass class, jlong session)
{
    (void)env, (void)class;
    free_session(session_of(session));
}

// Addresses of `n` direct buffers, each as large as its port; false with an exception where one is not.
static int find_buffers(JNIEnv *env, const java_session *session, int inputs, jobjectArray buffers, jintArray sizes, float **addresses)
{
    const int n = inputs ? qcnn_model_n_inputs(session->model) : qcnn_model_n_outputs(session->model);
    jint n_elements[MAX_PORTS];
    if (n > MAX_PORTS || (*env)->GetArrayLength(env, buffers) != n) {
        throw_java(env, "java/lang/IllegalArgumentException",
                   inputs ? "the network has another number of inputs" : "the network has another number of outputs");
        return 0;
    }
    (*env)->GetIntArrayRegion(env, sizes, 0, n, n_elements);
    for (int i = 0; i < n; i++) {
        const qcnn_shape shape = inputs ? qcnn_session_input_shape(session->session, i) : qcnn_session_output_shape(session->session, i);
        const jobject buffer = (*env)->GetObjectArrayElement(env, buffers, i);
        addresses[i] = (*env)->GetDirectBufferAddress(env, buffer);
        (*env)->DeleteLocalRef(env, buffer);
        if (!addresses[i] || n_elements[i] != elements_of(&shape)) {
            throw_java(env, "java/lang/IllegalArgumentException",
                       inputs ? "an input has another size than the network's" : "an output has another size than the network's");
            return 0;
        }
    }
    return 1;
}

static void native_run(JNIEnv *env, jclass class, jlong handle, jobjectArray inputs, jintArray input_sizes, jobjectArray outputs,
                       jintArray output_sizes)
{
    (void)class;
    const java_session *session = session_of(handle);
    float *from[MAX_PORTS], *to[MAX_PORTS];
    if (find_buffers(env, session, 1, inputs, input_sizes, from) && find_buffers(env, session, 0, outputs, output_sizes, to))
        qcnn_run(session->session, (const float *const *)from, to);
}

static jfloatArray native_layer_milliseconds(JNIEnv *env, jclass class, jlong handle)
{
    (void)class;
    const java_session *session = session_of(handle);
    const int n = qcnn_model_n_layers(session->model);
    const jfloatArray array = (*env)->NewFloatArray(env, n);
    for (int i = 0; array && i < n; i++) {
        const jfloat milliseconds = (jfloat)qcnn_session_layer_ms(session->session, i);
        (*env)->SetFloatArrayRegion(env, array, i, 1, &milliseconds);
    }
    return array;
}

static jlong native_session_bytes(JNIEnv *env, jclass class, jlong session)
{
    (void)env, (void)class;
    return (jlong)qcnn_session_bytes(session_of(session)->session);
}

// ---- loading --------------------------------------------------------------------------------------------------------

#define NATIVE(name, signature, function)                                                                                                  \
    {                                                                                                                                      \
        (char *)name, (char *)signature, (void *)function                                                                                  \
    }
#define BYTES "Ljava/nio/ByteBuffer;"
#define FLOATS "Ljava/nio/FloatBuffer;"

static const JNINativeMethod methods[] = {
    NATIVE("nativeLoad", "(" BYTES "J)J", native_load),
    NATIVE("nativeFree", "(J)V", native_free),
    NATIVE("nativeOriginalBytes", "(J)J", native_original_bytes),
    NATIVE("nativeCounts", "(J)[I", native_counts),
    NATIVE("nativeText", "(JII)[B", native_text),
    NATIVE("nativeShape", "(JZI)[I", native_shape),
    NATIVE("nativeLayerNumbers", "(JI)[J", native_layer_numbers),
    NATIVE("nativePreprocess", "([B" BYTES "III" FLOATS "I)V", native_preprocess),
    NATIVE("nativeSession", "(JIZ)J", native_session),
    NATIVE("nativeSessionFree", "(J)V", native_session_free),
    NATIVE("nativeRun", "(J[" FLOATS "[I[" FLOATS "[I)V", native_run),
    NATIVE("nativeLayerMilliseconds", "(J)[F", native_layer_milliseconds),
    NATIVE("nativeSessionBytes", "(J)J", native_session_bytes),
};

// The one symbol that the library exports.
JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *vm, void *reserved)
{
    (void)reserved;
    JNIEnv *env;
    if ((*vm)->GetEnv(vm, (void **)&env, JNI_VERSION_1_6) != JNI_OK)
        return JNI_ERR;
    const jclass exception = (*env)->FindClass(env, "org/qcnn/engine/QcnnException");
    const jclass network = exception ? (*env)->FindClass(env, "org/qcnn/engine/Network") : NULL;
    if (!network)
        return JNI_ERR;
    exception_class = (*env)->NewGlobalRef(env, exception);
    exception_constructor = (*env)->GetMethodID(env, exception, "<init>", "(I[B)V");
    if (!exception_class || !exception_constructor ||
        (*env)->RegisterNatives(env, network, methods, (jint)(sizeof methods / sizeof *methods)) != JNI_OK)
        return JNI_ERR;
    return JNI_VERSION_1_6;
}
