/** Constants of netgraph's messages (netgraph/ng_message.h, ng_socket.h): sizes, cookies, commands, flags. */

// sizes of strings, NUL included
export const NG_TYPESIZ = 32;
export const NG_HOOKSIZ = 32;
export const NG_NODESIZ = 32;
export const NG_PATHSIZ = 512;
export const NG_CMDSTRSIZ = 32;

/** version of struct ng_mesg's header */
export const NG_VERSION = 8;
/** bytes of that header */
export const NG_MESG_HDR_LEN = 56;

/** the command does not change the node */
export const NGM_READONLY = 0x10000000;
/** the command has a reply */
export const NGM_HASREPLY = 0x20000000;

export const NGF_ORIG = 0;
/** the message is a response */
export const NGF_RESP = 1;

export const NGM_GENERIC_COOKIE = 1137070366;

export const NGM_SHUTDOWN = 1;
export const NGM_MKPEER = 2;
export const NGM_CONNECT = 3;
export const NGM_NAME = 4;
export const NGM_RMHOOK = 5;
export const NGM_NODEINFO = 6 | NGM_READONLY | NGM_HASREPLY;
export const NGM_LISTHOOKS = 7 | NGM_READONLY | NGM_HASREPLY;
export const NGM_LISTNAMES = 8 | NGM_READONLY | NGM_HASREPLY;
export const NGM_LISTNODES = 9 | NGM_READONLY | NGM_HASREPLY;
export const NGM_LISTTYPES = 10 | NGM_READONLY | NGM_HASREPLY;
export const NGM_TEXT_STATUS = 11 | NGM_READONLY | NGM_HASREPLY;
export const NGM_BINARY2ASCII = 12 | NGM_READONLY | NGM_HASREPLY;
export const NGM_ASCII2BINARY = 13 | NGM_READONLY | NGM_HASREPLY;
export const NGM_TEXT_CONFIG = 14;

// flow control between nodes
export const NGM_FLOW_COOKIE = 851672669;
export const NGM_LINK_IS_UP = 32;
export const NGM_LINK_IS_DOWN = 33;
