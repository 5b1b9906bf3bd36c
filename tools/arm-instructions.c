/* A plugin of qemu's user mode: how often each block of guest instructions ran. See arm-instructions.py.
 *
 * The few declarations stand here because Debian ships qemu without its header (qemu-plugin.h, interface version 1).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
typedef uint64_t plugin_id;
enum { INLINE_ADD_U64 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);

EXPORT int qemu_plugin_version = 1;

struct block {
    uint64_t address, instructions;
    struct block *next;
};

static struct block *blocks;

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    struct block *b = calloc(1, sizeof *b);
    (void)id;
    if (!b)
        abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->instructions, qemu_plugin_tb_n_insns(tb));
}

static void ended(plugin_id id, void *file) {
    (void)id;
    for (struct block *b = blocks; b; b = b->next)
        fprintf(file, "%llx %llu\n", (unsigned long long)b->address, (unsigned long long)b->instructions);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments) {
    (void)info;
    FILE *file = count == 1 ? fopen(arguments[0] + sizeof "to=" - 1, "w") : NULL;
    if (!file)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, file);
    return 0;
}
