/* The C ABI from C. Arguments: the package, a target for what it compiles, a file with 1024 floats, a file with the 24
 * floats that the engine gives for them, and a package with a state (`acc += x; y = 2 acc`, 8 halves). Prints `ok` at the
 * end. */
#include "gesso.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      char text[512];                                                             \
      gesso_last_error(text, sizeof text);                                        \
      fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, text); \
      exit(1);                                                                    \
    }                                                                             \
  } while (0)

static const int64_t X_SHAPE[4] = {1, 16, 8, 8};
static const int64_t FC_SHAPE[2] = {1, 24};

static float x[1024];
static float wanted[24];

static void read_floats(const char *path, float *values, size_t count) {
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL);
  CHECK(fread(values, sizeof(float), count, file) == count);
  CHECK(fclose(file) == 0);
}

static GessoInput input_of(const void *data, size_t bytes) {
  GessoInput input = {"x", data, bytes, X_SHAPE, NULL, 4, GESSO_DTYPE_F32};
  return input;
}

static GessoOutput output_of(void *data, size_t bytes) {
  GessoOutput output = {"fc", data, bytes, FC_SHAPE, NULL, 2, GESSO_DTYPE_F32};
  return output;
}

static void predict_once(const GessoModel *model) {
  float fc[24] = {0};
  GessoInput input = input_of(x, sizeof x);
  GessoOutput output = output_of(fc, sizeof fc);
  CHECK(gesso_predict(model, NULL, &input, 1, &output, 1, NULL, NULL) == GESSO_STATUS_OK);
  CHECK(memcmp(fc, wanted, sizeof fc) == 0);
}

static void *predict_often(void *model) {
  for (int i = 0; i < 10; i++) predict_once(model);
  /* Messages belong to their thread. */
  CHECK(gesso_last_error(NULL, 0) == 0);
  CHECK(gesso_model_load(NULL, NULL) == GESSO_STATUS_NULL_POINTER);
  CHECK(gesso_last_error(NULL, 0) > 0);
  return NULL;
}

static void threads(GessoModel *model) {
  pthread_t started[16];
  for (int i = 0; i < 16; i++) CHECK(pthread_create(&started[i], NULL, predict_often, model) == 0);
  for (int i = 0; i < 16; i++) CHECK(pthread_join(started[i], NULL) == 0);
}

static void describes(const GessoModel *model) {
  size_t count = 0;
  const char *name = NULL;
  GessoFeature feature;
  char *json = NULL;
  CHECK(gesso_model_function_count(model, &count) == GESSO_STATUS_OK && count == 1);
  CHECK(gesso_model_function(model, 0, &name) == GESSO_STATUS_OK && strcmp(name, "main") == 0);
  CHECK(gesso_model_default_function(model, &name) == GESSO_STATUS_OK && strcmp(name, "main") == 0);
  CHECK(gesso_model_feature_count(model, "main", GESSO_KIND_INPUT, &count) == GESSO_STATUS_OK && count == 1);
  CHECK(gesso_model_feature(model, NULL, GESSO_KIND_INPUT, 0, &feature) == GESSO_STATUS_OK);
  CHECK(strcmp(feature.name, "x") == 0 && feature.rank == 4 && feature.optional == 0);
  CHECK(memcmp(feature.shape, X_SHAPE, sizeof X_SHAPE) == 0 && feature.dtype == GESSO_DTYPE_F32);
  CHECK(gesso_model_feature(model, NULL, GESSO_KIND_OUTPUT, 1, &feature) == GESSO_STATUS_NAME);
  CHECK(gesso_model_describe(model, &json) == GESSO_STATUS_OK);
  CHECK(strstr(json, "\"default_function\":\"main\"") != NULL);
  CHECK(gesso_string_free(&json) == GESSO_STATUS_OK && json == NULL);
  CHECK(gesso_string_free(&json) == GESSO_STATUS_OK);
}

/* Channels last with gaps, in memory that ends with the last element. */
static void strides(const GessoModel *model) {
  const int64_t in_strides[4] = {0, 1, 8 * 17, 17};
  const int64_t out_strides[2] = {1, 2};
  const size_t in_count = 15 + 63 * 17 + 1, out_count = 23 * 2 + 1;
  float *apart = calloc(in_count, sizeof(float));
  double *fc = calloc(out_count, sizeof(double));
  CHECK(apart != NULL && fc != NULL);
  for (size_t i = 0; i < 1024; i++) apart[(i % 64) * 17 + i / 64] = x[i];
  GessoInput input = input_of(apart, in_count * sizeof(float));
  GessoOutput output = output_of(fc, out_count * sizeof(double));
  input.strides = in_strides;
  output.strides = out_strides;
  output.dtype = GESSO_DTYPE_F64;
  CHECK(gesso_predict(model, NULL, &input, 1, &output, 1, NULL, NULL) == GESSO_STATUS_OK);
  for (size_t i = 0; i < 24; i++) CHECK(fc[2 * i] == (double)wanted[i]);
  output.bytes -= 1;
  CHECK(gesso_predict(model, NULL, &input, 1, &output, 1, NULL, NULL) == GESSO_STATUS_BUFFER);
  free(apart);
  free(fc);
}

static void batch_and_outputs(const GessoModel *model) {
  float fc[2][24] = {{0}};
  GessoInput inputs[2] = {input_of(x, sizeof x), input_of(x, sizeof x)};
  GessoOutput outputs[2] = {output_of(fc[0], sizeof fc[0]), output_of(fc[1], sizeof fc[1])};
  GessoOptions options = {GESSO_COMPUTE_FP32, GESSO_KERNELS_FAST, 2, 1};
  GessoOutputs *kept = NULL;
  GessoFeature feature;
  size_t count = 0;
  CHECK(gesso_predict_batch(model, NULL, 2, inputs, 1, outputs, 1, &options, NULL) == GESSO_STATUS_OK);
  CHECK(memcmp(fc[0], wanted, sizeof wanted) == 0 && memcmp(fc[1], wanted, sizeof wanted) == 0);
  CHECK(gesso_predict_outputs(model, NULL, inputs, 1, NULL, NULL, &kept) == GESSO_STATUS_OK);
  CHECK(gesso_outputs_count(kept, &count) == GESSO_STATUS_OK && count == 1);
  CHECK(gesso_outputs_feature(kept, 0, &feature) == GESSO_STATUS_OK && feature.shape[1] == 24);
  memset(fc, 0, sizeof fc);
  CHECK(gesso_outputs_copy(kept, &outputs[0]) == GESSO_STATUS_OK);
  CHECK(memcmp(fc[0], wanted, sizeof wanted) == 0);
  CHECK(gesso_outputs_free(&kept) == GESSO_STATUS_OK && kept == NULL);
  CHECK(gesso_outputs_free(&kept) == GESSO_STATUS_OK);
}

static void cancels(const GessoModel *model) {
  GessoInput input = input_of(x, sizeof x);
  GessoToken *token = NULL;
  CHECK(gesso_token_new(&token) == GESSO_STATUS_OK);
  CHECK(gesso_predict(model, NULL, &input, 1, NULL, 0, NULL, token) == GESSO_STATUS_OK);
  CHECK(gesso_token_set(token) == GESSO_STATUS_OK);
  CHECK(gesso_predict(model, NULL, &input, 1, NULL, 0, NULL, token) == GESSO_STATUS_CANCELLED);
  CHECK(gesso_token_free(&token) == GESSO_STATUS_OK && token == NULL);
  CHECK(gesso_token_free(&token) == GESSO_STATUS_OK);
  CHECK(gesso_token_set(token) == GESSO_STATUS_NULL_POINTER);
}

static void refuses(const GessoModel *model) {
  float fc[24];
  char text[8];
  size_t length;
  GessoModel *none = NULL;
  GessoInput input = input_of(x, sizeof x - 1);
  GessoOutput output = output_of(fc, sizeof fc);
  CHECK(gesso_model_load("/no/such.mlpackage", &none) == GESSO_STATUS_IO && none == NULL);
  CHECK(gesso_model_load("\xff", &none) == GESSO_STATUS_UTF8);
  CHECK(gesso_model_free(NULL) == GESSO_STATUS_OK && gesso_model_free(&none) == GESSO_STATUS_OK);
  CHECK(gesso_predict(model, NULL, &input, 1, &output, 1, NULL, NULL) == GESSO_STATUS_BUFFER);
  length = gesso_last_error(text, sizeof text);
  CHECK(length > sizeof text && strcmp(text, "input `") == 0);
  CHECK(gesso_predict(model, "nope", NULL, 0, NULL, 0, NULL, NULL) == GESSO_STATUS_NAME);
  CHECK(gesso_predict(model, NULL, NULL, 0, NULL, 0, NULL, NULL) == GESSO_STATUS_MISSING_INPUT);
  CHECK(gesso_predict(NULL, NULL, NULL, 0, NULL, 0, NULL, NULL) == GESSO_STATUS_NULL_POINTER);
}

static const int64_t STATE_SHAPE[2] = {1, 8};

typedef struct {
  GessoModel *model;
  GessoState *state;
} Stateful;

static void accumulate(const Stateful *s, float value, float *y) {
  float ones[8];
  for (int i = 0; i < 8; i++) ones[i] = value;
  GessoInput input = {"x", ones, sizeof ones, STATE_SHAPE, NULL, 2, GESSO_DTYPE_F32};
  GessoOutput output = {"y", y, 8 * sizeof(float), STATE_SHAPE, NULL, 2, GESSO_DTYPE_F32};
  CHECK(gesso_predict_with_state(s->model, NULL, s->state, &input, 1, &output, 1, NULL, NULL) == GESSO_STATUS_OK);
}

static void *accumulate_often(void *given) {
  float y[8];
  for (int i = 0; i < 20; i++) accumulate(given, 1, y);
  return NULL;
}

static void states(const char *package) {
  Stateful s = {NULL, NULL};
  float y[8], held[8];
  pthread_t started[4];
  GessoStateBuffer buffer;
  GessoOutput output = {"acc", held, sizeof held, STATE_SHAPE, NULL, 2, GESSO_DTYPE_F32};
  GessoInput input = {"acc", held, sizeof held, STATE_SHAPE, NULL, 2, GESSO_DTYPE_F32};
  CHECK(gesso_model_load(package, &s.model) == GESSO_STATUS_OK);
  CHECK(gesso_state_new(s.model, NULL, &s.state) == GESSO_STATUS_OK);
  accumulate(&s, 0.5f, y);
  accumulate(&s, 0.25f, y);
  for (int i = 0; i < 8; i++) CHECK(y[i] == 1.5f);
  CHECK(gesso_state_lock(s.state, "acc", &buffer) == GESSO_STATUS_OK);
  CHECK(buffer.bytes == 16 && buffer.rank == 2 && buffer.dtype == GESSO_DTYPE_F16);
  CHECK(buffer.shape[1] == 8 && buffer.strides[0] == 8 && buffer.strides[1] == 1);
  for (int i = 0; i < 8; i++) {
    CHECK(((uint16_t *)buffer.data)[i] == 0x3a00); /* 0.75 */
    ((uint16_t *)buffer.data)[i] = 0x3c00;         /* 1 */
  }
  CHECK(gesso_state_lock(s.state, "acc", &buffer) == GESSO_STATUS_BUSY);
  CHECK(gesso_state_read(s.state, &output) == GESSO_STATUS_BUSY);
  CHECK(gesso_state_unlock(s.state, "acc") == GESSO_STATUS_OK);
  CHECK(gesso_state_unlock(s.state, "acc") == GESSO_STATUS_ARGUMENT);
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&started[i], NULL, accumulate_often, &s) == 0);
  for (int i = 0; i < 4; i++) CHECK(pthread_join(started[i], NULL) == 0);
  CHECK(gesso_state_read(s.state, &output) == GESSO_STATUS_OK);
  for (int i = 0; i < 8; i++) CHECK(held[i] == 81);
  held[3] = 0.1f;
  CHECK(gesso_state_write(s.state, &input) == GESSO_STATUS_OK);
  CHECK(gesso_state_read(s.state, &output) == GESSO_STATUS_OK);
  CHECK(held[2] == 81 && held[3] == 0x1.998p-4f);
  CHECK(gesso_predict(s.model, NULL, NULL, 0, NULL, 0, NULL, NULL) == GESSO_STATUS_MISSING_INPUT);
  CHECK(gesso_model_free(&s.model) == GESSO_STATUS_OK);
  CHECK(gesso_state_lock(s.state, "acc", &buffer) == GESSO_STATUS_OK);
  CHECK(gesso_state_free(&s.state) == GESSO_STATUS_OK && s.state == NULL);
  CHECK(gesso_state_free(&s.state) == GESSO_STATUS_OK);
}

static void compiles(const char *package, const char *target) {
  GessoModel *model = NULL;
  CHECK(gesso_compile(package, target, 0) == GESSO_STATUS_OK);
  CHECK(gesso_compile(package, target, 0) == GESSO_STATUS_EXISTS);
  CHECK(gesso_model_load(target, &model) == GESSO_STATUS_OK);
  predict_once(model);
  CHECK(gesso_model_free(&model) == GESSO_STATUS_OK && model == NULL);
}

int main(int count, char **arguments) {
  GessoModel *model = NULL;
  CHECK(count == 6);
  CHECK(strlen(gesso_version()) >= 5);
  read_floats(arguments[3], x, 1024);
  read_floats(arguments[4], wanted, 24);
  CHECK(gesso_model_load(arguments[1], &model) == GESSO_STATUS_OK);
  predict_once(model);
  threads(model);
  describes(model);
  strides(model);
  batch_and_outputs(model);
  cancels(model);
  refuses(model);
  states(arguments[5]);
  compiles(arguments[1], arguments[2]);
  CHECK(gesso_model_free(&model) == GESSO_STATUS_OK && model == NULL);
  CHECK(gesso_model_free(&model) == GESSO_STATUS_OK);
  puts("ok");
  return 0;
}
