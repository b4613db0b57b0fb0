/**
 * The reader's place in a long list: what is scrolled, at what height rows lie, and how a list too high for a browser is scaled.
 * @module
 */

/** Greatest height of the list in px; Firefox ends at 17.9 million. */
const MAX_HEIGHT = 8_000_000;
/** The scrollbar is put right so long after the last small step, in ms. */
const SETTLE = 200;

export class Viewport {
  /**
   * @param {{scroller: HTMLElement, head: HTMLElement, body: HTMLElement}} elements `body`: what holds the rows
   * @param {() => number} total number of rows in the list
   * @param {() => void} settled called after the scrollbar was put right
   */
  constructor({ scroller, head, body }, total, settled) {
    this.scroller = scroller;
    this.head = head;
    this.body = body;
    this.total = total;
    this.settled = settled;
    this.rowHeight = 28;
    /** Whether that is the height of a row that was seen. */
    this.measured = false;
    /** Rows from the start of the list to the upper edge of the view. */
    this.top = 0;
    this.lastScroll = 0;
    /** Height that the list has. */
    this.sized = "";
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.settling = undefined;
  }

  /** Rows that fit into the view. */
  rows() {
    return this.scroller.clientHeight / this.rowHeight;
  }

  height() {
    return Math.min(this.total() * this.rowHeight, MAX_HEIGHT);
  }

  scaled() {
    return this.total() * this.rowHeight > MAX_HEIGHT;
  }

  /** Distance from the top of what scrolls to where the rows begin below the column heads. */
  start() {
    const { scroller, body } = this;
    const offset = body.getBoundingClientRect().top - scroller.getBoundingClientRect().top + scroller.scrollTop;
    return offset - this.covered();
  }

  /** Height at the upper edge of the view that the column heads cover. */
  covered() {
    return this.head.offsetHeight;
  }

  /** Where row 0 lies in the list, so that the row at `top` is at the upper edge; 0 unless the list is scaled. */
  base() {
    return this.scaled() ? Math.max(0, this.scroller.scrollTop - this.start()) - this.top * this.rowHeight : 0;
  }

  sizeBody() {
    const height = `${Math.round(this.height())}px`;
    if (height !== this.sized) this.body.style.setProperty("--h", height);
    this.sized = height;
  }

  /** Moves the reader's place with rows that were added above. @param {number} rows */
  shift(rows) {
    if (rows === 0) return;
    this.top = Math.max(0, this.top + rows);
    this.scrollTo();
  }

  /** Sets the scrollbar to the reader's place. */
  scrollTo() {
    this.sizeBody();
    const { scroller } = this;
    const range = this.height() - scroller.clientHeight + this.covered();
    const place = this.scaled() ? (this.top / Math.max(1, this.total() - this.rows())) * Math.max(1, range) : this.top * this.rowHeight;
    scroller.scrollTop = this.start() + place;
    this.lastScroll = scroller.scrollTop;
  }

  /** Goes to the first row, and to what stands above the list where that leaves at least half of the view to the rows. */
  toTop() {
    this.top = 0;
    this.sizeBody();
    const start = this.start();
    if (start <= this.scroller.clientHeight / 2) this.scroller.scrollTop = this.lastScroll = 0;
    else if (this.scroller.scrollTop > start) this.scrollTo();
  }

  /** Brings a row into view. @param {number} index */
  reveal(index) {
    const { scroller } = this;
    const view = (scroller.clientHeight - this.covered()) / this.rowHeight;
    const hidden = Math.max(0, this.start() - scroller.scrollTop) / this.rowHeight;
    if (index < this.top && hidden === 0) this.top = index;
    else if (index + 1 > this.top + view - hidden) this.top = Math.max(0, index + 1 - view);
    else return;
    this.scrollTo();
  }

  /** Follows the scrollbar. Returns whether it moved. */
  follow() {
    const { scroller, lastScroll: from } = this;
    const to = scroller.scrollTop;
    if (from === to) return false;
    this.lastScroll = to;
    const start = this.start();
    const place = Math.max(0, to - start);
    if (!this.scaled()) {
      this.top = place / this.rowHeight;
      return true;
    }
    const step = to - Math.max(from, start);
    const range = Math.max(1, this.height() - scroller.clientHeight + this.covered());
    const far = Math.abs(step) > 2 * scroller.clientHeight || place < 1 || place >= range - 1;
    const most = Math.max(0, this.total() - this.rows() + 1);
    this.top = far ? (place / range) * most : Math.max(0, Math.min(most, this.top + step / this.rowHeight));
    this.#settle();
    return true;
  }

  /** After small steps in a scaled list the scrollbar tells another place than the rows: it is put right once scrolling has stopped. */
  #settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      if (!this.scaled()) return;
      this.scrollTo();
      this.settled();
    }, SETTLE);
  }

  destroy() {
    clearTimeout(this.settling);
  }
}
