/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of channels: one function for each ioctl. Each returns what the ioctl
 * returned, or -errno.
 */
#ifndef CHANNEL_TEST_H
#define CHANNEL_TEST_H

#include "pi_test.h"

/* The header may be older than the tests. */
#ifndef NTSYNC_IOC_CREATE_CHANNEL
struct ntsync_channel_args {
	__u32 max_depth;
	__u32 __pad;
};

struct ntsync_channel_send_args {
	__u32 policy;
	__u32 prio;
	__u64 payload_off;
	__u64 reply_off;
};

struct ntsync_channel_recv_args {
	__u64 entry_id;
	__u64 payload_off;
	__u64 reply_off;
	__u32 sender_tid;
	__u32 prio;
};

struct ntsync_channel_recv2_args {
	__u64 entry_id;
	__u64 payload_off;
	__u64 reply_off;
	__u32 sender_tid;
	__u32 prio;
	__u64 thread_token;
};

struct ntsync_channel_thread_args {
	__u32 tid;
	__u32 __pad;
	__u64 token;
};

#define NTSYNC_MAX_CHANNEL_DEPTH	1024
#define NTSYNC_MAX_CHANNEL_THREADS	65536
#define NTSYNC_IOC_CREATE_CHANNEL		_IOWR('N', 0x90, struct ntsync_channel_args)
#define NTSYNC_IOC_CHANNEL_SEND_PI		_IOWR('N', 0x91, struct ntsync_channel_send_args)
#define NTSYNC_IOC_CHANNEL_RECV			_IOWR('N', 0x92, struct ntsync_channel_recv_args)
#define NTSYNC_IOC_CHANNEL_REPLY		_IOW('N', 0x93, __u64)
#define NTSYNC_IOC_CHANNEL_REGISTER_THREAD	_IOW('N', 0x94, struct ntsync_channel_thread_args)
#define NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD	_IOW('N', 0x95, __u32)
#define NTSYNC_IOC_CHANNEL_RECV2		_IOWR('N', 0x96, struct ntsync_channel_recv2_args)
#define NTSYNC_IOC_CHANNEL_TRY_RECV2		_IOWR('N', 0x98, struct ntsync_channel_recv2_args)
#define NTSYNC_IOC_CHANNEL_SEND_ONLY		_IO('N', 0x9a)
#endif

#ifndef NTSYNC_IOC_EVENT_SET_PI
struct ntsync_event_set_pi_args {
	__u32 flags;
	__u32 policy;
	__u32 prio;
	__u32 __pad;
};

#define NTSYNC_IOC_EVENT_SET_PI	_IOW('N', 0x8e, struct ntsync_event_set_pi_args)
#endif

#ifndef NTSYNC_IOC_AGGREGATE_WAIT
#define NTSYNC_SOURCE_OBJECT	1
#define NTSYNC_SOURCE_FD	2
#define NTSYNC_MAX_SOURCES	64
#define NTSYNC_INDEX_NONE	0xffffffffu

struct ntsync_source {
	__u32 type;
	__u32 events;
	__u32 fd;
	__u32 __pad;
};

struct ntsync_aggregate_wait_args {
	__u64 timeout;
	__u64 sources;
	__u32 nb_sources;
	__u32 fired_index;
	__u32 flags;
	__u32 owner;
	__u32 fired_events;
	__u32 __pad;
};

#define NTSYNC_IOC_AGGREGATE_WAIT	_IOWR('N', 0x97, struct ntsync_aggregate_wait_args)
#endif

#ifndef NTSYNC_INDEX_URING_READY
#define NTSYNC_INDEX_URING_READY	0xfffffffeu
#endif

static inline int ch_create(int dev, __u32 depth)
{
	struct ntsync_channel_args args = { .max_depth = depth };

	return nt_ioctl(dev, NTSYNC_IOC_CREATE_CHANNEL, &args);
}

static inline int ch_send_pi(int ch, __u32 policy, __u32 prio, __u64 payload, __u64 reply)
{
	struct ntsync_channel_send_args args = {
		.policy = policy, .prio = prio, .payload_off = payload, .reply_off = reply,
	};

	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_SEND_PI, &args);
}

/* With nothing but the priority that the sender has. */
static inline int ch_send(int ch, __u64 payload, __u64 reply)
{
	return ch_send_pi(ch, 0, 0, payload, reply);
}

static inline int ch_recv(int ch, struct ntsync_channel_recv_args *args)
{
	memset(args, 0xcc, sizeof(*args));
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_RECV, args);
}

static inline int ch_recv2(int ch, struct ntsync_channel_recv2_args *args)
{
	memset(args, 0xcc, sizeof(*args));
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_RECV2, args);
}

static inline int ch_try_recv2(int ch, struct ntsync_channel_recv2_args *args)
{
	memset(args, 0xcc, sizeof(*args));
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, args);
}

static inline int ch_reply(int ch, __u64 id)
{
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_REPLY, &id);
}

static inline int ch_register(int ch, __u32 tid, __u64 token)
{
	struct ntsync_channel_thread_args args = { .tid = tid, .token = token };

	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_REGISTER_THREAD, &args);
}

static inline int ch_deregister(int ch, __u32 tid)
{
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD, &tid);
}

static inline int ch_send_only(int ch)
{
	return nt_ioctl(ch, NTSYNC_IOC_CHANNEL_SEND_ONLY, NULL);
}

/*
 * What an actor of pi_test.h can be told to do: objs[0] is the channel, and req
 * what it sends or has received. The actor must be the first member.
 */
struct peer {
	struct actor a;
	struct ntsync_channel_send_args send;
	struct ntsync_channel_recv2_args req;
	__u64 reply;		/* id */
};

static inline struct peer *actor_peer(struct actor *a)
{
	return (struct peer *)a;
}

static inline int do_send(struct actor *a)
{
	struct ntsync_channel_send_args args = actor_peer(a)->send;

	return nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_SEND_PI, &args);
}

static inline int do_recv(struct actor *a)
{
	return ch_recv2(a->objs[0], &actor_peer(a)->req);
}

static inline int do_try_recv(struct actor *a)
{
	return ch_try_recv2(a->objs[0], &actor_peer(a)->req);
}

static inline int do_reply(struct actor *a)
{
	return ch_reply(a->objs[0], actor_peer(a)->reply);
}

/* For FIXTURE_SETUP(): skip without channels. After open_device(), begin_rt() or begin_pi(). */
#define need_channels(dev) do {						\
	int __ch = ch_create((dev), 1);					\
									\
	if (__ch == -ENOTTY)						\
		SKIP(return, "no channels in this kernel");		\
	ASSERT_LE(0, __ch);						\
	close(__ch);							\
} while (0)

/*
 * The same for later patches: a request other than SEND_PI, RECV and REPLY. RECV2 would
 * sleep, but it comes with REGISTER_THREAD.
 */
#define need_ioctl(dev, request) do {					\
	int __ch = ch_create((dev), 1), __ret;				\
									\
	ASSERT_LE(0, __ch);						\
	__ret = nt_ioctl(__ch, (request) == NTSYNC_IOC_CHANNEL_RECV2 ?	\
			 NTSYNC_IOC_CHANNEL_REGISTER_THREAD : (request), NULL);	\
	close(__ch);							\
	if (__ret == -ENOTTY)						\
		SKIP(return, "not in this kernel: " #request);		\
	if (__ret >= 0)							\
		close(__ret);						\
} while (0)

#endif
