# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""The hot paths of microkernel, compiled. See docs/decisions/0015 in its repository.

Each function does what a Python function of microkernel does, for the usual case, and says so if the case is another:
then nothing has happened yet, and the Python function does it. The types are microkernel's own; their slots are read at
the offsets that their member descriptors name. Nothing here is an interface for others: ``INTERFACE`` changes with
every change of what microkernel expects.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

INTERFACE = 1

cdef extern from *:
    """
    #include <sched.h>
    #include <structmember.h>
    #include <sys/socket.h>
    #include <time.h>

    static double mkn_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
    }

    /* The offset of a slot that holds an object; -1 if this is not the descriptor of one. */
    static Py_ssize_t mkn_offset(PyObject *descriptor) {
        PyMemberDef *member;
        if (!PyObject_TypeCheck(descriptor, &PyMemberDescr_Type)) return -1;
        member = ((PyMemberDescrObject *)descriptor)->d_member;
        if (member->type != T_OBJECT_EX || member->offset < (Py_ssize_t)sizeof(PyObject)) return -1;
        return member->offset;
    }
    """
    double mkn_now() noexcept nogil
    Py_ssize_t mkn_offset(object)
    ssize_t c_send "send"(int, const void*, size_t, int) nogil
    ssize_t c_recv "recv"(int, void*, size_t, int) nogil
    int sched_yield() nogil
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1
    object PyContextVar_Set(object, object)
    PyObject* PyDict_GetItemWithError(object, object) except? NULL
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

DEF DATAGRAM = 65536
DEF HEAD = 4

# Used only while the interpreter's lock is held, which none of the functions that use it releases.
cdef char _room[DATAGRAM + 1]


cdef Py_ssize_t offset_of(kind, str name) except -1:
    cdef Py_ssize_t offset
    if not isinstance(kind, type):
        raise TypeError("not a class")
    offset = mkn_offset(getattr(kind, name))
    if offset < 0:
        raise TypeError(f"{kind.__name__}.{name} is not a slot")
    return offset


cdef inline object slot(object owner, Py_ssize_t offset):
    """Return the value of a slot. ``owner`` must be exactly of the type that the offset is of."""
    cdef PyObject* value = (<PyObject**>((<char*><PyObject*>owner) + offset))[0]
    if value is NULL:
        raise AttributeError("an empty slot")
    return <object>value


# --- sending and receiving -------------------------------------------------------------------------------------------


def send(int descriptor, bytes data not None):
    """Return whether the datagram was sent."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    return c_send(descriptor, PyBytes_AS_STRING(data), size, MSG_DONTWAIT | MSG_NOSIGNAL) == size


def receive(int descriptor):
    """Return a datagram; empty at the end of the socket, None if none has arrived. Raises OSError."""
    cdef ssize_t size = c_recv(descriptor, _room, sizeof(_room), MSG_DONTWAIT)
    if size >= 0:
        return PyBytes_FromStringAndSize(_room, size)
    if errno == EAGAIN:
        return None
    raise OSError(errno, "receive")


def poll(int descriptor, double window, bint yields):
    """Return a datagram that arrives within the window, and the seconds that it took; empty if none does. The seconds
    are negative if it was there at once."""
    cdef double began, passed = -1.0
    cdef ssize_t size = c_recv(descriptor, _room, sizeof(_room), MSG_DONTWAIT)
    if size < 0:
        began = mkn_now()
        passed = 0.0
        while size < 0 and passed < window:
            if yields:
                sched_yield()
            size = c_recv(descriptor, _room, sizeof(_room), MSG_DONTWAIT)
            passed = mkn_now() - began
    return (PyBytes_FromStringAndSize(_room, size) if size > 0 else b""), passed


# --- MessagePack -----------------------------------------------------------------------------------------------------


cdef inline char* put_be(char* at, uint64_t value, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        at[i] = <char>(value >> (8 * (size - 1 - i)))
    return at + size


cdef inline char* put_uint(char* at, uint64_t value) noexcept nogil:
    """Write an integer as msgspec does, in its shortest form; at most 9 bytes."""
    if value < 0x80:
        at[0] = <char>value
        return at + 1
    if value <= 0xFF:
        at[0] = <char>0xCC
        return put_be(at + 1, value, 1)
    if value <= 0xFFFF:
        at[0] = <char>0xCD
        return put_be(at + 1, value, 2)
    if value <= <uint64_t>0xFFFFFFFF:
        at[0] = <char>0xCE
        return put_be(at + 1, value, 4)
    at[0] = <char>0xCF
    return put_be(at + 1, value, 8)


cdef inline char* put_text(char* at, const char* text, Py_ssize_t size) noexcept nogil:
    if size < 32:
        at[0] = <char>(0xA0 | size)
        at += 1
    elif size < 256:
        at[0] = <char>0xD9
        at = put_be(at + 1, size, 1)
    else:
        at[0] = <char>0xDA
        at = put_be(at + 1, size, 2)
    memcpy(at, text, size)
    return at + size


cdef inline uint64_t get_be(const unsigned char* at, int size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = (value << 8) | at[i]
    return value


cdef const unsigned char* get_uint(const unsigned char* at, const unsigned char* end, uint64_t* value) noexcept nogil:
    """Read an unsigned integer. Return what follows it; NULL if it is something else or does not end before ``end``."""
    cdef int size
    if at >= end:
        return NULL
    if at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    if at[0] < 0xCC or at[0] > 0xCF:
        return NULL
    size = 1 << (at[0] - 0xCC)
    if end - at < 1 + size:
        return NULL
    value[0] = get_be(at + 1, size)
    return at + 1 + size


cdef Py_ssize_t width_of(const unsigned char* at, const unsigned char* end) noexcept nogil:
    """Return the bytes of a scalar, a text, bytes, or something empty; 0 if it is something else or does not end before
    ``end``. The encoding of a text is not checked, as msgspec does not where it keeps a value encoded."""
    cdef Py_ssize_t left = end - at, size
    cdef unsigned char first
    if left < 1:
        return 0
    first = at[0]
    if first < 0x80 or first >= 0xE0 or first == 0xC0 or first == 0xC2 or first == 0xC3:
        size = 1
    elif 0xA0 <= first < 0xC0:
        size = 1 + (first & 0x1F)
    elif first == 0xC4 or first == 0xD9:
        size = 2 + at[1] if left > 1 else 0
    elif first == 0xC5 or first == 0xDA:
        size = 3 + <Py_ssize_t>get_be(at + 1, 2) if left > 2 else 0
    elif first == 0xCC or first == 0xD0:
        size = 2
    elif first == 0xCD or first == 0xD1:
        size = 3
    elif first == 0xCE or first == 0xD2 or first == 0xCA:
        size = 5
    elif first == 0xCF or first == 0xD3 or first == 0xCB:
        size = 9
    elif first == 0x90 or first == 0x80:
        size = 1  # an empty list or dict
    else:
        return 0
    return size if size <= left else 0


# --- replies ---------------------------------------------------------------------------------------------------------

DEF REPLY_HEAD = HEAD + 3 + 9
DEF REPLY_TAIL = 4


def pack_reply(uint64_t id, bytes value not None, bint emitted):
    """Return the frame of a reply with a value, for a reply lane; None if it is too long for one datagram."""
    cdef char* at
    if PyBytes_GET_SIZE(value) > DATAGRAM - REPLY_HEAD - REPLY_TAIL:
        return None
    at = write_reply(_room, id, value, emitted)
    return PyBytes_FromStringAndSize(_room, at - _room)


cdef char* write_reply(char* room, uint64_t id, bytes value, bint emitted) noexcept:
    cdef char* at = room + HEAD
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    at[0] = <char>0x91
    at[1] = <char>0x97
    at[2] = 3
    at = put_uint(at + 3, id)
    memcpy(at, PyBytes_AS_STRING(value), size)
    at += size
    at[0] = <char>0xC0
    at[1] = <char>(0xC3 if emitted else 0xC2)
    at[2] = <char>0x90
    at[3] = <char>0xC2
    at += 4
    put_be(room, at - room - HEAD, HEAD)
    return at


def read_reply(bytes datagram not None):
    """Return the id and the encoded value of the one plain reply that a datagram is: without a failure, attachments,
    or earlier events. None if it is anything else, valid or not."""
    cdef const unsigned char* start = <const unsigned char*>PyBytes_AS_STRING(datagram)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(datagram), width
    cdef const unsigned char* end = start + size
    cdef const unsigned char* at
    cdef uint64_t id = 0
    if size < HEAD + 9 or size > DATAGRAM or get_be(start, HEAD) != <uint64_t>(size - HEAD):
        return None
    at = start + HEAD
    if at[0] != 0x91 or at[1] != 0x97 or at[2] != 3:
        return None
    at = get_uint(at + 3, end, &id)
    if at is NULL or id > <uint64_t>0x7FFFFFFFFFFFFFFF:
        return None
    width = width_of(at, end)
    if not width or end - at - width != 4:
        return None
    if at[width] != 0xC0 or at[width + 1] != 0xC2 or at[width + 2] != 0x90 or at[width + 3] != 0xC2:
        return None
    return id, PyBytes_FromStringAndSize(<const char*>at, width)


# --- handlers and methods --------------------------------------------------------------------------------------------


cdef object _SETTLED = object()


cdef class MessageRunner:
    """Runs events and calls on the thread of the caller, as ``Dispatcher.handle`` does.

    What it does not run itself, it passes to ``dispatcher.handle``: events and calls with attachments, of async
    functions, with arguments that do not fit, after their deadline, during a stop.
    """

    cdef object deliver, invoke, inline, job, context, current, coroutine, encode, values_of
    cdef const unsigned char[:] page
    cdef Py_ssize_t d_seq, d_handler, d_event, d_reply_to, d_deadline, d_shares
    cdef Py_ssize_t i_id, i_method, i_args, i_kwargs, i_deadline, i_chain, i_lane, i_shares
    cdef Py_ssize_t h_function, h_decode, m_function, m_decode
    cdef object handler_binding, method_binding
    cdef double flush_after
    cdef Py_ssize_t flush_count, max_payload

    def __init__(
        self, deliver, invoke, handler_binding, method_binding, inline, job, context, current,
        coroutine, encode, values_of, page, double flush_after, Py_ssize_t flush_count, Py_ssize_t max_payload
    ):
        self.deliver, self.invoke, self.inline, self.job, self.context = deliver, invoke, inline, job, context
        self.handler_binding, self.method_binding = handler_binding, method_binding
        self.current, self.coroutine, self.encode, self.values_of = current, coroutine, encode, values_of
        self.page = page
        self.flush_after, self.flush_count, self.max_payload = flush_after, flush_count, max_payload
        self.d_seq, self.d_handler = offset_of(deliver, "seq"), offset_of(deliver, "handler")
        self.d_event, self.d_reply_to = offset_of(deliver, "event"), offset_of(deliver, "reply_to")
        self.d_deadline, self.d_shares = offset_of(deliver, "deadline"), offset_of(deliver, "shares")
        self.i_id, self.i_method = offset_of(invoke, "id"), offset_of(invoke, "method")
        self.i_args, self.i_kwargs = offset_of(invoke, "args"), offset_of(invoke, "kwargs")
        self.i_deadline, self.i_chain = offset_of(invoke, "deadline"), offset_of(invoke, "chain")
        self.i_lane, self.i_shares = offset_of(invoke, "lane"), offset_of(invoke, "shares")
        self.h_function, self.h_decode = offset_of(handler_binding, "function"), offset_of(handler_binding, "decode")
        self.m_function, self.m_decode = offset_of(method_binding, "function"), offset_of(method_binding, "decode")

    def run(self, dispatcher, received):
        """Handle messages in their order."""
        for message in received:
            if type(message) is self.deliver:
                if not self.run_event(dispatcher, message):
                    dispatcher.handle(message)
            elif type(message) is self.invoke:
                if not self.run_call(dispatcher, message):
                    dispatcher.handle(message)
            else:
                dispatcher.handle(message)

    cdef object call(self, object dispatcher, object message, object function, tuple args, object work, bint encoded):
        """Call a function of the plugin in a copy of the context. Return its value, ``encoded`` if it is to be; _SETTLED if
        ``dispatcher.settle`` has finished it, in the same context."""
        cdef object context = PyContext_CopyCurrent()
        cdef object value
        PyContext_Enter(context)
        try:
            PyContextVar_Set(self.current, work)
            try:
                value = function(*args)
            except BaseException as error:
                dispatcher.settle(message, None, error)
                return _SETTLED
            if type(value) is self.coroutine or not self.page[0]:
                dispatcher.settle(message, value, None)
                return _SETTLED
            if not encoded:
                return value
            try:
                payload = self.encode(value)
            except Exception:
                payload = None
            if type(payload) is not bytes or PyBytes_GET_SIZE(payload) > self.max_payload:
                dispatcher.settle(message, value, None)  # finds the reason, or attaches
                return _SETTLED
            return payload
        finally:
            PyContext_Exit(context)

    cdef bint run_event(self, object dispatcher, object message) except -1:
        cdef PyObject* found
        cdef object binding, decode, work, value
        cdef tuple args
        cdef list done
        if dispatcher.stop is not None or type(dispatcher.executor) is not self.inline:
            return False
        if mkn_now() - <double>dispatcher._last_receive > self.flush_after:
            return False
        if slot(message, self.d_shares) != () or slot(message, self.d_reply_to) != 0:
            return False
        found = PyDict_GetItemWithError(dispatcher._handlers.by_number, slot(message, self.d_handler))
        if found is NULL:
            return False
        binding = <object>found
        if type(binding) is not self.handler_binding:
            return False
        decode = slot(binding, self.h_decode)
        if decode is None:
            return False
        try:
            args = self.values_of(decode(slot(message, self.d_event)).data)
        except Exception:
            return False  # the Python path finds the reason
        work = self.context(slot(message, self.d_seq), slot(message, self.d_deadline), [], 0)
        value = self.call(dispatcher, message, slot(binding, self.h_function), args, work, False)
        if value is not _SETTLED:
            done = dispatcher._done
            done.append(slot(message, self.d_seq))
            if len(done) >= self.flush_count:
                dispatcher.flush()
        return True

    cdef bint run_call(self, object dispatcher, object message) except -1:
        cdef PyObject* found
        cdef object binding, decode, work, payload
        cdef tuple args
        if dispatcher.stop is not None or type(dispatcher.executor) is not self.inline:
            return False
        if slot(message, self.i_shares) != () or mkn_now() >= <double>slot(message, self.i_deadline):
            return False
        found = PyDict_GetItemWithError(dispatcher._handlers.methods, slot(message, self.i_method))
        if found is NULL:
            return False
        binding = <object>found
        if type(binding) is not self.method_binding:
            return False
        decode = slot(binding, self.m_decode)
        if decode is None or bytes(slot(message, self.i_kwargs)) != b"\x80":
            return False
        try:
            args = self.values_of(decode(slot(message, self.i_args)))
        except Exception:
            return False
        if dispatcher._done or dispatcher._sharing.ended:
            dispatcher.flush()
        work = self.context(slot(message, self.i_id), slot(message, self.i_deadline), slot(message, self.i_chain), 0)
        # A Cancel finds the job there: functions poll for it.
        dispatcher._calls[slot(message, self.i_id)] = self.job(
            work, slot(binding, self.m_function), args, {}, None, False
        )
        payload = self.call(dispatcher, message, slot(binding, self.m_function), args, work, True)
        if payload is not _SETTLED:
            dispatcher._calls.pop(slot(message, self.i_id), None)
            self.answer(dispatcher, message, payload)
        return True

    cdef object answer(self, object dispatcher, object message, bytes payload):
        """Send the reply on its lane if that is possible at once, otherwise by ``dispatcher``."""
        cdef object channel, lane = slot(message, self.i_lane)
        cdef char* end
        cdef bint emitted
        cdef tuple lanes
        cdef long number = lane
        channel = dispatcher._channel
        lanes = channel.lane_descriptors if number >= 0 else ()
        if 0 <= number < len(lanes) and PyBytes_GET_SIZE(payload) <= DATAGRAM - REPLY_HEAD - REPLY_TAIL:
            emitted = channel._has_emitted
            end = write_reply(_room, slot(message, self.i_id), payload, emitted)
            if c_send(lanes[number], _room, end - _room, MSG_DONTWAIT | MSG_NOSIGNAL) == end - _room:
                if emitted:
                    channel._has_emitted = False
                return
        dispatcher.answer(message, payload)


# --- calls of the embedding program ----------------------------------------------------------------------------------

DEF LARGEST_CALL = 8192


cdef class CallPath:
    """Calls of the embedding program to a plugin at `process` that is idle or nearly so: from the tables of the kernel
    to the socket of the worker, and out of the tables again.

    It changes the tables as ``CallRouter.call``, ``Mailbox.put``, ``Mailbox.take`` and ``CallTable.complete`` do, one
    after the other, and holds the lock of the channel meanwhile.
    """

    cdef object call_type, pending_type, delivery_type, raw, encode, check_topic, current
    cdef double max_timeout
    cdef Py_ssize_t p_call, p_target, p_delivery, p_caller, p_timer, d_seq, c_shares

    def __init__(
        self, call_type, pending_type, delivery_type, raw, encode, check_topic, current,
        double max_timeout
    ):
        self.call_type, self.pending_type, self.delivery_type = call_type, pending_type, delivery_type
        self.raw, self.encode, self.check_topic, self.current = raw, encode, check_topic, current
        self.max_timeout = max_timeout
        self.p_call, self.p_target = offset_of(pending_type, "call"), offset_of(pending_type, "target")
        self.p_delivery, self.p_caller = offset_of(pending_type, "delivery"), offset_of(pending_type, "caller")
        self.p_timer = offset_of(pending_type, "cancel_timer")
        self.d_seq = offset_of(delivery_type, "seq")
        self.c_shares = offset_of(call_type, "shares")

    def send(self, core, str target not None, timeout, tuple args not None, dict kwargs not None):
        """Send a call. Return the Call, its id, and the lane to wait on; None if nothing was done."""
        cdef double now, deadline, around
        cdef object found, record, mailbox, channel, lane, encoded, named, lock, instance
        cdef str name, method
        if type(timeout) is not float and type(timeout) is not int:
            return None
        found = target.partition(".")
        name, method = found[0], found[2]
        record = core.registry.find(name)
        if record is None or record.state != "active" or method not in record.methods:
            return None
        instance = record.instance
        if instance is None or instance.disconnected:
            return None
        channel = getattr(instance.runner, "native_channel", None)
        mailbox = record.mailbox
        if channel is None:
            return None
        try:
            self.check_topic(target)
            encoded = self.encode(args) if args else b"\x90"
            named = self.encode(kwargs) if kwargs else b"\x80"
        except Exception:
            return None  # the Python path raises the error
        if len(encoded) + len(named) + 4 * len(target) > LARGEST_CALL:  # a character takes four bytes at most
            return None
        now = mkn_now()
        deadline = now + min(<double>timeout, self.max_timeout)
        around = self.current.get().deadline
        if around and around < deadline:
            deadline = around
        lane = instance.runner.lane()
        if lane is None:
            return None
        lock = channel._pumping
        if not lock.acquire(False):
            lane.release()
            return None
        try:
            if not self.is_open(record, instance, mailbox, channel):
                lane.release()
                return None
            if not instance.watched:
                instance.owner.on_activity(instance)
            found = self.register(core, record, mailbox, channel, lane, target, method, encoded, named, deadline, now)
        finally:
            lock.release()
        if channel._pump_again or mailbox.waiting:
            channel.pump()
        return found

    cdef bint is_open(self, object record, object instance, object mailbox, object channel) except -1:
        """Return whether a call can be sent at once, before nothing else, and counts as a single slot."""
        cdef object flight = mailbox._flight, down = channel._down, incoming = record.incoming
        if mailbox.paused or mailbox.consumer is not instance or instance.disconnected:
            return False
        if mailbox.waiting_flag is not None:  # the callee has direct channels
            return False
        if mailbox.waiting or mailbox._taken or mailbox._large or incoming._large:
            return False
        if len(incoming) >= mailbox.capacity or len(flight) >= mailbox._most or mailbox._alone in flight:
            return False
        return not (channel._control or down.unsent or down.closed)

    cdef object register(
        self, object core, object record, object mailbox, object channel, object lane, str target, str method,
        bytes encoded, bytes named, double deadline, double now
    ):
        cdef object calls = core.calls, flight = mailbox._flight, counts = record.counts
        cdef object call, delivery, pending, id = next(calls._ids), seq
        cdef int descriptor = channel._down_socket.fileno()
        cdef Py_ssize_t size, text_size
        cdef const char* text = PyUnicode_AsUTF8AndSize(method, &text_size)
        cdef uint64_t number = id, bits
        cdef long index = lane.index
        cdef char* at
        call = self.call_type(0, target, self.raw(encoded), self.raw(named), deadline)
        delivery = self.delivery_type(id, call, method, lane)
        seq = slot(delivery, self.d_seq)
        pending = self.pending_type(id, None, record, call, method, lane.answer, delivery)
        calls.pending[id] = pending
        record.incoming[id] = delivery
        counts.calls += 1
        if not flight:
            mailbox.progress = now
        flight[seq] = delivery

        # [[14, id, method, args, kwargs, deadline, [], lane, []]]
        at = _room + HEAD
        at[0] = <char>0x91
        at[1] = <char>0x99
        at[2] = 14
        at = put_uint(at + 3, number)
        at = put_text(at, text, text_size)
        size = PyBytes_GET_SIZE(encoded)
        memcpy(at, PyBytes_AS_STRING(encoded), size)
        at += size
        size = PyBytes_GET_SIZE(named)
        memcpy(at, PyBytes_AS_STRING(named), size)
        at += size
        at[0] = <char>0xCB
        memcpy(&bits, &deadline, 8)
        at = put_be(at + 1, bits, 8)
        at[0] = <char>0x90
        at = put_uint(at + 1, index)
        at[0] = <char>0x90
        at += 1
        put_be(_room, at - _room - HEAD, HEAD)
        if c_send(descriptor, _room, at - _room, MSG_DONTWAIT | MSG_NOSIGNAL) != at - _room:
            flight.pop(seq, None)
            mailbox.waiting.append(delivery)  # the Python path sends it when there is room, or finds the channel closed
        return call, id, lane

    def collect(self, calls, id):
        """Take a call that its caller has the reply of out of the tables. Return whether that was possible."""
        cdef object pending, target, delivery, call, mailbox
        pending = calls.pending.get(id)
        if type(pending) is not self.pending_type or slot(pending, self.p_timer) is not None:
            return False
        call, target = slot(pending, self.p_call), slot(pending, self.p_target)
        delivery = slot(pending, self.p_delivery)
        if type(delivery) is not self.delivery_type or slot(pending, self.p_caller) is not None:
            return False
        mailbox = target.mailbox
        if slot(call, self.c_shares) != () or target.incoming._large or mailbox._large:
            return False
        if mailbox.waiting or mailbox.blocked_sends._waiting:
            return False
        pending.is_answered = True
        delivery.is_answered = True
        if target.incoming.pop(id, None) is not None:
            mailbox.progress = mkn_now()
            mailbox._flight.pop(slot(delivery, self.d_seq), None)
        calls.pending.pop(id, None)
        return True


# --- events ----------------------------------------------------------------------------------------------------------


cdef inline Py_ssize_t text_width(Py_ssize_t size) noexcept nogil:
    """Return the bytes of a text with its head; it must have less than 64 KiB."""
    return size + (1 if size < 32 else 2 if size < 256 else 3)


def pack_event(uint64_t id, str topic not None, str source not None, double time, data):
    """Return an encoded Envelope; None for texts of 64 KiB or more."""
    cdef Py_ssize_t topic_size, source_size, size
    cdef const char* topic_text = PyUnicode_AsUTF8AndSize(topic, &topic_size)
    cdef const char* source_text = PyUnicode_AsUTF8AndSize(source, &source_size)
    cdef Py_buffer payload
    if topic_size > 0xFFFF or source_size > 0xFFFF:
        return None
    PyObject_GetBuffer(data, &payload, PyBUF_SIMPLE)
    try:
        size = uint_width(id) + text_width(topic_size) + text_width(source_size) + 10 + payload.len
        return write_event(
            size, id, topic_text, topic_size, source_text, source_size, time, <const char*>payload.buf, payload.len
        )
    finally:
        PyBuffer_Release(&payload)


cdef bytes write_event(
    Py_ssize_t size, uint64_t id, const char* topic_text, Py_ssize_t topic_size, const char* source_text,
    Py_ssize_t source_size, double time, const char* payload, Py_ssize_t payload_size
):
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, size)
    cdef uint64_t bits
    cdef char* at = PyBytes_AS_STRING(packed)
    at[0] = <char>0x95
    at = put_uint(at + 1, id)
    at = put_text(at, topic_text, topic_size)
    at = put_text(at, source_text, source_size)
    at[0] = <char>0xCB
    memcpy(&bits, &time, 8)
    at = put_be(at + 1, bits, 8)
    memcpy(at, payload, payload_size)
    return packed


cdef inline Py_ssize_t uint_width(uint64_t value) noexcept nogil:
    if value < 0x80:
        return 1
    if value <= 0xFF:
        return 2
    if value <= 0xFFFF:
        return 3
    return 5 if value <= <uint64_t>0xFFFFFFFF else 9


def remove_handled(dict flight not None, list seqs not None):
    """Remove events in flight, as ``Mailbox.handled_all`` does while there are no large ones. Return how many."""
    cdef PyObject* found
    cdef object seq
    cdef Py_ssize_t count = 0
    for seq in seqs:
        found = PyDict_GetItemWithError(flight, seq)
        if found is not NULL and not (<object>found).is_call:
            if flight.pop(seq, None) is not None:
                count += 1
    return count


# Bytes of an encoded event besides its texts (four bytes a character at most) and its data.
DEF LARGEST_EVENT_HEAD = 1 + 9 + 3 + 3 + 9


cdef class EventPath:
    """Events from an emitter to mailboxes, as ``EventBus.emit``, ``Mailbox.accept`` and ``Mailbox.put`` do."""

    cdef object delivery, raw, subscription, mailbox, message
    cdef Py_ssize_t e_seq, e_subscription, e_delivery, e_envelope, e_reply_to, e_deadline, e_shares, s_number
    cdef Py_ssize_t s_once, s_inline, s_receiver
    cdef Py_ssize_t m_waiting, m_taken, m_flight, m_large, m_admits, m_blocked, m_bell, m_pump, m_flag
    cdef Py_ssize_t slot_bytes, batch

    def __init__(self, delivery, subscription, mailbox, message, raw, Py_ssize_t slot_bytes, Py_ssize_t batch):
        self.delivery, self.subscription, self.mailbox, self.raw = delivery, subscription, mailbox, raw
        self.message = message
        self.e_seq, self.e_subscription = offset_of(delivery, "seq"), offset_of(delivery, "subscription")
        self.e_delivery, self.e_envelope = offset_of(delivery, "delivery"), offset_of(delivery, "envelope")
        self.e_reply_to, self.e_deadline = offset_of(delivery, "reply_to"), offset_of(delivery, "deadline")
        self.e_shares, self.s_number = offset_of(delivery, "shares"), offset_of(subscription, "number")
        self.slot_bytes, self.batch = slot_bytes, batch
        self.s_once, self.s_inline = offset_of(subscription, "once"), offset_of(subscription, "inline")
        self.s_receiver = offset_of(subscription, "receiver")
        self.m_waiting, self.m_taken = offset_of(mailbox, "waiting"), offset_of(mailbox, "_taken")
        self.m_flight, self.m_large = offset_of(mailbox, "_flight"), offset_of(mailbox, "_large")
        self.m_admits, self.m_blocked = offset_of(mailbox, "_admits"), offset_of(mailbox, "blocked_sends")
        self.m_bell, self.m_pump = offset_of(mailbox, "bell"), offset_of(mailbox, "pump")
        self.m_flag = offset_of(mailbox, "waiting_flag")

    def emit(self, bus, str source not None, str topic not None, data, mode, on_settled):
        """Deliver an event without attachments. Return False if nothing was done."""
        cdef PyObject* found = PyDict_GetItemWithError(bus.topics.matches, topic)
        cdef tuple matches
        cdef object subscription, envelope, delivery
        cdef list unsettled = None
        cdef Py_ssize_t size
        cdef bint direct = mode.direct
        if found is NULL:
            return False
        matches = <tuple?><object>found
        for subscription in matches:
            if type(subscription) is not self.subscription or slot(subscription, self.s_once):
                return False
            if slot(subscription, self.s_inline) is not None:
                return False
        if len(data) + 4 * (len(topic) + len(source)) + LARGEST_EVENT_HEAD > self.slot_bytes:
            return False
        envelope = pack_event(next(bus._ids), topic, source, bus._wall(), data)
        size = PyBytes_GET_SIZE(envelope)
        envelope = self.raw(envelope)
        for subscription in matches:
            delivery = self.delivery(subscription, topic, envelope, size)
            if self.accept(slot(subscription, self.s_receiver).mailbox, delivery, direct):
                continue
            if bus._overflows(delivery, source):
                continue
            if not mode.waits:
                bus.reject(delivery)
            elif unsettled is None:
                unsettled = [delivery]
            else:
                unsettled.append(delivery)
        if unsettled is not None:
            bus._wait_for_room(unsettled, source, on_settled)
        elif on_settled is not None:
            on_settled()
        return True

    def messages(self, list deliveries not None, instance):
        """Return the messages for deliveries that an instance has taken, as ``Instance.take`` does."""
        cdef object delivery, message, number
        cdef list taken = []
        for delivery in deliveries:
            if type(delivery) is self.delivery and slot(delivery, self.e_shares) == ():
                number = slot(slot(delivery, self.e_subscription), self.s_number)
                if number:
                    taken.append(self.message(
                        slot(delivery, self.e_seq), number, slot(delivery, self.e_delivery),
                        slot(delivery, self.e_envelope), slot(delivery, self.e_reply_to),
                        slot(delivery, self.e_deadline)
                    ))
                    continue
            message = delivery.message(instance.runner)
            if message is None or message.shares:
                message = instance.prepare(delivery, message)
            if message is not None:
                taken.append(message)
        return taken

    cdef bint accept(self, object mailbox, object delivery, bint direct) except -1:
        cdef object waiting, flight, bell
        cdef Py_ssize_t count
        if type(mailbox) is not self.mailbox:
            return mailbox.accept(delivery, direct=direct)
        waiting, flight = slot(mailbox, self.m_waiting), slot(mailbox, self.m_flight)
        if slot(mailbox, self.m_large) or slot(mailbox, self.m_blocked)._waiting:
            return mailbox.accept(delivery, direct=direct)
        if slot(mailbox, self.m_flag) is not None:  # the receiver has direct channels
            return mailbox.accept(delivery, direct=direct)
        count = len(waiting) + len(slot(mailbox, self.m_taken)) + len(flight)
        if count >= <Py_ssize_t>slot(mailbox, self.m_admits):
            return False
        try:
            waiting.append(delivery)
            if direct and (not flight or len(waiting) % self.batch == 0):
                slot(mailbox, self.m_pump)()
            else:
                slot(mailbox, self.m_bell)()
        except BaseException:
            slot(mailbox, self.m_bell)()  # see Mailbox.put
            raise
        return True
