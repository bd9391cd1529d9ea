// Every bound in one place: what comes from outside is limited before it is looked at.
#pragma once

#define LIMIT_HTTP_HEAD           (64u << 10)  // request line + all headers, bytes
#define LIMIT_HTTP_HEADERS        100u         // header lines
#define LIMIT_HTTP_BODY           (32u << 20)  // request body, bytes
#define LIMIT_HTTP_CONNECTIONS    1024u        // open client connections
#define LIMIT_OTHER_FILES         256u         // descriptors beside client connections
#define LIMIT_HTTP_BACKLOG        (4u << 20)   // unsent response bytes of one client before it is dropped
#define LIMIT_HTTP_HEAD_SECONDS   30u          // time to send a request's head; longest pause within its body
#define LIMIT_HTTP_IDLE_SECONDS   120u         // keep-alive connections without a request
#define LIMIT_HTTP_BODY_SECONDS   300u         // time to send a whole request body
#define LIMIT_HTTP_WRITE_SECONDS  60u          // a client that takes none of the bytes that wait for it
#define LIMIT_HTTP_LINGER_SECONDS 5u           // time for a client to close after our last byte
#define LIMIT_HTTP_PIPELINED      (64u << 10)  // bytes that may wait behind the request being answered
#define LIMIT_HTTP_BODIES         (256u << 20) // request bodies of all connections together, bytes
#define LIMIT_HTTP_REFUSED        64u          // connections beyond the limit that still get a 503
#define LIMIT_HTTP_LISTENERS      8u           // addresses one server listens on
#define LIMIT_JSON_VALUES         (1u << 18)   // values of a JSON document from outside
#define LIMIT_PROMPT_IDS          (LIMIT_JSON_VALUES - 4096u) // token ids of a prompt; with the rest of a message they fit
#define LIMIT_JSON_DEPTH          64u                         // nesting of a JSON document from outside
#define LIMIT_IPC_TO_WORKER       (64u << 20)                 // one message to a worker, bytes
#define LIMIT_IPC_FROM_WORKER     (8u << 20)                  // one message from a worker, bytes
#define LIMIT_IPC_BACKLOG         (128u << 20) // requests that one worker has not taken yet, bytes; then 429
#define LIMIT_ANSWER              (16u << 20)  // text of an answer that is not streamed, bytes
#define LIMIT_STOP_STRINGS        16u          // stop strings of one request
#define LIMIT_STOP_BYTES          256u         // bytes of one stop string
#define LIMIT_LOGIT_BIAS          1024u        // logit_bias entries of one request
#define LIMIT_MESSAGES            4096u        // chat messages of one request
#define LIMIT_ROLE                32u          // bytes of a chat message's role
#define LIMIT_MODEL_NAME          128u         // bytes of a model's name
#define LIMIT_LOADED_MODELS       16u          // workers one daemon may hold
#define LIMIT_STORED_MODELS       4096u        // models that the store lists
#define LIMIT_SIDECAR             (1u << 20)   // what the store keeps about one model, bytes
#define LIMIT_INSPECTION          (4u << 20)   // what the inspection of a model file may say, bytes
#define LIMIT_PROFILE_FILE        (16u << 10)  // what is kept about a model's costs, bytes
#define LIMIT_PROFILES            256u         // files of those
#define LIMIT_METRICS             (1u << 20)   // one answer of /metrics, bytes
#define LIMIT_API_LINE            (2u << 20)   // one line of an NDJSON answer, bytes
#define LIMIT_PARALLEL            254u // sequences of one worker (libllama's 256, less those for moving rows and measuring)
#define LIMIT_KV_LAYERS           1024u        // layers of a KV cache that is streamed
#define LIMIT_KV_WIDTH            (1u << 18)   // elements of a row of one layer
#define LIMIT_KV_ROWS             1024u        // rows of a unit
#define LIMIT_KV_HEAD             4096u        // bytes of each part of a sequence's state that is not rows
#define LIMIT_KV_SLOT             (256u << 20) // bytes of a unit
#define LIMIT_KV_STATE            (1u << 30)   // bytes of a whole state (KV_OPAQUE)
#define LIMIT_KV_SLOTS            1024u        // units that may arrive at one worker at the same time
#define LIMIT_KV_BLOCKS           4096u        // pieces of units that may leave one worker at the same time
#define LIMIT_KV_UNITS            256u         // units of one sequence that have begun to leave
#define LIMIT_KV_ORDERS           4096u        // orders for one sequence that its worker has not begun yet
#define LIMIT_KV_CREDITS          4096u        // units that a receiver of a KV stream may grant at once
#define LIMIT_KV_FRAME            (32u << 20)  // payload of one frame of a KV stream, bytes
#define LIMIT_KV_PROBE            (128u << 10) // payload of a frame that measures a link, bytes
#define LIMIT_KV_STREAMS          1024u        // KV streams that a node has open, in each direction
#define LIMIT_KV_CONNECTIONS      64u          // connections of KV streams that peers have opened
#define LIMIT_KV_CONNECTIONS_EACH 16u          // those of one peer
#define LIMIT_KV_THREADS          256u         // threads that send KV streams
#define LIMIT_KV_CONNECT_MS       3000u        // time to reach a peer and be let in
#define LIMIT_KV_STALL_SECONDS    30u          // a connection on which nothing moves within a frame
#define LIMIT_KV_RATE_LEAST       (64u << 10)  // bytes per second at which a frame must travel, beside these seconds
#define LIMIT_KV_IDLE_SECONDS     30u          // connections to a peer to which no stream goes
#define LIMIT_KV_BUFFER_MB        65536u       // memory shared with one worker, MB
#define LIMIT_PROBE_BYTES         (1ull << 34) // of one measurement of a link
#define LIMIT_PROBE_SECONDS       10u          // likewise
#define LIMIT_LINK_RATE           (1ull << 40) // bytes per second of a link: none is faster
#define LIMIT_LINK_RTT_SECONDS    60u          // of a link: none that is up is slower
#define LIMIT_PEER_MESSAGE        (8u << 20)   // one message to another node or from it, bytes
#define LIMIT_PEER_BACKLOG        (8u << 20)   // bytes that another node has not taken yet; then its link is dropped
#define LIMIT_ORDERS_BYTES        (64u << 20) // places that other nodes have ordered and that wait for their turn, bytes
#define LIMIT_ORDERS_BYTES_EACH   (16u << 20)  // those of one node
#define LIMIT_ORDERS_SECONDS      300u         // one waits so long at most
#define LIMIT_PEER_HELLO          (256u << 10) // what a node says about itself, bytes
#define LIMIT_PEER_HANDSHAKES     32u          // incoming connections before the end of their handshakes
#define LIMIT_PEER_RATE           32u          // handshakes that one address may begin per second in the long run
#define LIMIT_PEER_BURST          128u         // and at once
#define LIMIT_PEER_FRAME_SECONDS  10u          // time for a message on a link, beside what it takes at this rate:
#define LIMIT_PEER_RATE_LEAST     (64u << 10)  // bytes per second
#define LIMIT_PEER_HELLO_SECONDS  10u          // time for a handshake, and again for saying hello
#define LIMIT_PEER_LISTENERS      8u           // addresses at which other nodes are accepted
#define LIMIT_PEER_LOOKUPS        64u          // names being looked up, each on a thread
#define LIMIT_INVITATIONS         8u           // open at the same time
#define LIMIT_INVITATION_SECONDS  900u         // time to join with a token
#define LIMIT_INVITATION_PROOFS   3u           // wrong ones; then it is burnt
#define LIMIT_INVITATIONS_PAST    32u          // whose end is remembered, to tell latecomers
#define LIMIT_PAIR_GUESTS         16u          // unknown machines that are being talked to
#define LIMIT_PAIR_GUESTS_EACH    4u           // those of one address
#define LIMIT_PAIR_MESSAGE        (16u << 10)  // one message of an unknown machine, bytes
#define LIMIT_PAIR_SECONDS        15u          // time for the next message while pairing
#define LIMIT_JOIN_FOUND          32u          // discovered addresses at which an inviter is looked for
#define LIMIT_JOIN_SEARCH_MS      5000u        // time to discover one, where none of a token's addresses is it
#define LIMIT_PAIR_SIGN_SECONDS   180u         // time for the admin's command line to sign
#define LIMIT_ROSTER_MESSAGE      (2u << 20)   // a message with a roster document, bytes
#define LIMIT_STATIC_PEERS        32u          // addresses in the setting peers
#define LIMIT_WITNESS_LOGS        64u          // audit logs of one node that another one witnesses, ever
#define LIMIT_MIRRORS_MB          16777216u    // disk space for mirrors of such logs, MB
#define LIMIT_DISCOVERED          160u         // nodes that are heard of on the network and shown
#define LIMIT_CONFIG_BYTES        (1u << 20)   // nebulus.conf
#define LIMIT_TEMPLATE_BYTES      (1u << 20)   // a chat template's source
#define LIMIT_TEMPLATE_OUTPUT     (32u << 20)  // a rendered prompt, bytes
#define LIMIT_TEMPLATE_MEMORY     (256u << 20) // QuickJS heap, bytes
#define LIMIT_TEMPLATE_STACK      (1u << 20)   // QuickJS stack, bytes
#define LIMIT_TEMPLATE_MS         500u         // rendering time of one request
#define LIMIT_TEMPLATE_PARSE_MS   2000u        // parsing time of a chat template, while a model loads
#define LIMIT_API_ANSWER          (64u << 20) // what the command line reads of one answer of the daemon (streams: one line)
#define LIMIT_CLI_TEXT            (24u << 20) // a prompt that the command line reads from stdin or a file, bytes
