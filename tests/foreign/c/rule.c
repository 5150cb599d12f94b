/* A rule in C without generated bindings: it returns no notifications. The numbers are addresses and lengths in the
   layout of the component model's canonical ABI. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name("belfry:projector/projector@1.0.0#" name)))

static const char NAME[] = "foreign-c", VERSION[] = "1.0.0", SUMMARY[] = "Accepts events in C and returns no notifications.";
static const char EVENT_TYPE[] = "huleedu.ras.batch.results.ready.v1";
static uint32_t subscription[5], description[12], answer[5];

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
  void *block = aligned_alloc(align < 8 ? 8 : align, (size + 7) & ~(size_t)7);
  if (!block) __builtin_trap();
  if (old) memcpy(block, old, old_size < size ? old_size : size);
  return block;
}

static void text(uint32_t *at, const char *text) {
  at[0] = (uint32_t)(uintptr_t)text;
  at[1] = (uint32_t)strlen(text);
}

EXPORT("describe") uint32_t *describe(void) {
  text(subscription, EVENT_TYPE);
  text(description, NAME);
  text(description + 2, VERSION);
  text(description + 4, SUMMARY);
  description[6] = (uint32_t)(uintptr_t)subscription;
  description[7] = 1;
  return description;
}

EXPORT("check-config") uint32_t *check_config(void) { return answer; }

/* Ok, no notifications and no withdrawals. */
EXPORT("project") uint32_t *project(void *arguments) { (void)arguments; return answer; }
