/* The mock upstream's answers in the shapes of OpenAI and GigaChat, prepared once. SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_ANSWERS_H
#define BENCH_ANSWERS_H

#include <stdarg.h>

#include "common.h"

enum { MIDDLE_PIECES = 8 };

struct bytes {
    char *data;
    size_t len;
};

/* The prepared parts of one service's answers. */
struct service {
    struct bytes json, models, head, first, middle[MIDDLE_PIECES], last, done;
};

static struct bytes format(const char *pattern, ...) {
    struct bytes out;
    va_list args;
    va_start(args, pattern);
    int len = vasprintf(&out.data, pattern, args);
    va_end(args);
    if (len < 0) die("vasprintf");
    out.len = (size_t)len;
    return out;
}

static struct bytes json_answer(const char *extra, const char *body) {
    return format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s", extra,
                  strlen(body), body);
}

static struct bytes piece(const char *event) { return format("%zx\r\n%s\r\n", strlen(event), event); }

static const char TEXT[] =
    "A gateway stands between the programs that ask and the models that answer. It checks who is asking, chooses "
    "where the question goes, translates the words of one service into those of another, and hands the answer back "
    "without holding it longer than it must. This text is as long as a short paragraph of a usual answer, so that "
    "one complete reply of the mock service weighs about one kilobyte on the wire. Nothing in it is compressed, and "
    "it holds a few letters beyond ASCII, as real answers do: \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, "
    "caf\xc3\xa9, na\xc3\xafve. The numbers of tokens below are invented but stay the same in every answer, which "
    "makes two runs comparable with each other.";

#define STREAM_HEAD                                                                                                   \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n%sTransfer-Encoding: "          \
    "chunked\r\n\r\n"
#define GIGA_HEADERS                                                                                                  \
    "x-request-id: 0b0d6f4e-52a1-4f0e-9f4e-2f6f5c1b7a10\r\nx-session-id: 7d1c1a52-8a0f-4f53-8b75-3d0b4f6f9c21\r\n"
#define OPENAI_CHUNK                                                                                                  \
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1768996176,\"model\":"          \
    "\"gpt-test\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n"
#define GIGA_CHUNK                                                                                                    \
    "data: {\"choices\":[{\"delta\":{\"content\":\"%s\"%s},\"index\":0%s}],\"created\":1768996176,\"model\":"         \
    "\"GigaChat-2:2.0.28.2\",\"object\":\"chat.completion\"%s}\n\n"
#define GIGA_USAGE                                                                                                    \
    "\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":142,\"total_tokens\":159,\"precached_prompt_tokens\":2}"

static const char *const WORDS[MIDDLE_PIECES] = {" token", " after", " token", " comes", " one", " by", " one", ","};

static struct bytes piece_of(struct bytes event) {
    struct bytes out = piece(event.data);
    free(event.data);
    return out;
}

/* The two services; filled by prepare_answers. */
static struct service openai, gigachat;

static void prepare_openai(void) {
    struct bytes body = format(
        "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1768996176,\"model\":\"gpt-test\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":142,"
        "\"total_tokens\":159},\"system_fingerprint\":\"fp_mock\"}",
        TEXT);
    openai.json = json_answer("x-request-id: req_mock\r\n", body.data);
    free(body.data);
    openai.head = format(STREAM_HEAD, "x-request-id: req_mock\r\n");
    openai.first = piece_of(format(OPENAI_CHUNK, "\"role\":\"assistant\",\"content\":\"One\"", "null"));
    for (int i = 0; i < MIDDLE_PIECES; i++) {
        struct bytes delta = format("\"content\":\"%s\"", WORDS[i]);
        openai.middle[i] = piece_of(format(OPENAI_CHUNK, delta.data, "null"));
        free(delta.data);
    }
    openai.last = piece_of(format(OPENAI_CHUNK, "", "\"stop\""));
    openai.done = format("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    openai.models = json_answer("", "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-test\",\"object\":\"model\","
                                    "\"created\":1768996176,\"owned_by\":\"mock\"}]}");
}

static void prepare_gigachat(void) {
    struct bytes body = format(
        "{\"choices\":[{\"message\":{\"content\":\"%s\",\"role\":\"assistant\"},\"index\":0,\"finish_reason\":"
        "\"stop\"}],\"created\":1768996176,\"model\":\"GigaChat-2:2.0.28.2\",\"object\":\"chat.completion\","
        GIGA_USAGE "}",
        TEXT);
    gigachat.json = json_answer(GIGA_HEADERS, body.data);
    free(body.data);
    gigachat.head = format(STREAM_HEAD, GIGA_HEADERS);
    gigachat.first = piece_of(format(GIGA_CHUNK, "One", ",\"role\":\"assistant\"", "", ""));
    for (int i = 0; i < MIDDLE_PIECES; i++) gigachat.middle[i] = piece_of(format(GIGA_CHUNK, WORDS[i], "", "", ""));
    gigachat.last = piece_of(format(GIGA_CHUNK, "", "", ",\"finish_reason\":\"stop\"", "," GIGA_USAGE));
    gigachat.done = openai.done;
    gigachat.models = json_answer(GIGA_HEADERS,
                                  "{\"object\":\"list\",\"data\":[{\"id\":\"GigaChat-2\",\"object\":\"model\","
                                  "\"owned_by\":\"salutedevices\",\"type\":\"chat\"}]}");
}

static void prepare_answers(void) {
    prepare_openai();
    prepare_gigachat();
}

#endif
