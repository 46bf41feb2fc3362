/* A PVH guest in 50 lines: it says hello on Xen's console device, and powers off. Xen enters it in 32-bit protected mode
   with flat segments and without paging (Xen docs/misc/pvh.pandoc), which is all it needs. */
#include <stdint.h>

#define HVMOP_get_param 1		/* public/hvm/hvm_op.h */
#define HVM_PARAM_CONSOLE_PFN 17	/* public/hvm/params.h */
#define HVM_PARAM_CONSOLE_EVTCHN 18
#define EVTCHNOP_send 4			/* public/event_channel.h */
#define SCHEDOP_shutdown 2		/* public/sched.h */

__asm__(".pushsection .note.Xen, \"a\", @note\n"
	".long 4, 4, 18\n.asciz \"Xen\"\n.long start\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
	".popsection\n"
	".globl start\nstart: mov $stack + 4096, %esp\n call main\n");

char stack[4096];
/* Xen fills this page with its calls, 32 bytes each. */
char hypercalls[4096] __attribute__((aligned(4096)));

/* public/io/console.h */
struct console {
	char in[1024], out[2048];
	uint32_t in_cons, in_prod, out_cons, out_prod;
};

static int32_t hypercall(int number, uint32_t first, void *second)
{
	int32_t result;
	void *call = hypercalls + 32 * number;
	__asm__ volatile("call *%1" : "=a"(result), "+r"(call), "+b"(first), "+c"(second) : : "memory");
	return result;
}

static uint32_t parameter(uint32_t index)
{
	struct { uint16_t domid; uint32_t index; uint64_t value; } ask = { 0x7ff0 /* itself */, index, 0 };
	hypercall(34 /* hvm_op */, HVMOP_get_param, &ask);
	return ask.value;
}

void main(void)
{
	/* Xen's register for the page of calls, where it runs without Viridian extensions. */
	__asm__ volatile("wrmsr" : : "c"(0x40000000), "a"(hypercalls), "d"(0));
	volatile struct console *console = (void *)(parameter(HVM_PARAM_CONSOLE_PFN) << 12);
	uint32_t port = parameter(HVM_PARAM_CONSOLE_EVTCHN), poweroff = 0;
	for (const char *text = "Hello from a PVH kernel in C.\n"; *text; text++)
		console->out[console->out_prod++ % 2048] = *text;
	hypercall(32 /* event_channel_op */, EVTCHNOP_send, &port);
	for (;;)
		hypercall(29 /* sched_op */, SCHEDOP_shutdown, &poweroff);
}
