/**
 * The menu that copies a message in the forms of other tools.
 * @module
 */
import { copyText } from "../copy.js";
import { Menu } from "../menu.js";
import { FORMATS, targetOf } from "./formats.js";

/** Most bytes that are copied. */
const MOST = 1024 * 1024;

/**
 * @param {() => import("./pair.js").Pair | undefined} pair the current message
 * @param {() => import("../types.js").Conversation | null} conversation
 */
export function copyMenu(pair, conversation) {
  /** @type {"req" | "rep"} */
  let side = "req";
  return new Menu({ label: "Copy", icon: "copy", key: "c" }, () => {
    const current = pair();
    const talk = conversation();
    if (!current || !talk) return [{ name: "There is no message to copy" }];
    const { n } = current.exchange;
    /** @param {"req" | "rep"} to */
    const turn = (to) => {
      side = to;
    };
    if (!current[side]) side = current.req ? "req" : "rep";
    /** @type {import("../menu.js").Choice[]} */
    const sides = [];
    if (current.req) sides.push({ name: `Request #${n}`, group: "side", checked: side === "req", run: () => turn("req") });
    if (current.rep) sides.push({ name: `Reply #${n}`, group: "side", checked: side === "rep", run: () => turn("rep") });
    return [
      ...sides,
      ...FORMATS.map(({ name, make }) => ({
        name,
        run: async () => {
          try {
            const bytes = await current[side]?.all(MOST);
            return bytes && (await copyText(make(bytes, targetOf(talk)))) ? "Copied" : "Not allowed";
          } catch {
            return "Too long: download it";
          }
        },
      })),
    ];
  });
}
